//! Q4_0 in panels of sixteen rows (layout in `rows16.rs`), times one token or eight.
//!
//! A 4-byte lane holds a row's weights i .. i + 4 in its lower nibbles and i + 16 .. i + 20 in its upper ones; the
//! token's values for either are broadcast to all lanes, so lanes add up to rows. Nibbles are 8 too large, which sums
//! that start at `-8 Σx` undo. With AVX2 alone the products of a whole block fit the i16 lanes of `vpmaddubsw`: sixteen
//! of at most 15 × 127 make 30,480; they are widened once a block.

use super::ask_ahead;
use crate::kernels::activations::Row;
use crate::kernels::panel::ROWS;
use crate::kernels::rows16::{BLOCK_BYTES, NIBBLES};
use crate::kernels::tokens::{TOKENS, Tokens};
use std::arch::x86_64::*;

/// Checks that one token fits the panels, which is what makes the kernels' loads sound.
fn check_gemv(panels: &[u8], x: &Row, y: &[f32]) {
    let blocks = x.scales.len();
    assert!(
        x.q.len() == blocks * 32
            && x.starts.len() == blocks
            && y.len().is_multiple_of(ROWS)
            && panels.len() == y.len() / ROWS * blocks * BLOCK_BYTES,
        "gemv sizes"
    );
}

/// The same for eight tokens and one panel.
fn check_tile(panel: &[u8], x: &Tokens) {
    let blocks = x.d.len();
    assert!(
        x.cols() == Some(blocks * 32) && panel.len() == blocks * BLOCK_BYTES,
        "tile sizes"
    );
}

/// Kernels of eight rows at a time: `$dot(sum, u8x32, i8x32)`, and `$end(sum, start) -> i32x8`.
macro_rules! eight_rows {
    ($name:ident, $features:literal, $doc:literal, |$start:ident| $begin:expr, |$sum:ident, $w:ident, $v:ident| $dot:expr, |$last:ident, $from:ident| $end:expr) => {
        #[doc = $doc]
        pub(super) mod $name {
            use super::*;

            /// Tokens at a time, for sixteen registers.
            const PART: usize = 4;

            #[inline]
            #[target_feature(enable = $features)]
            fn dot($sum: __m256i, $w: __m256i, $v: __m256i) -> __m256i {
                $dot
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn begin($start: i32) -> __m256i {
                $begin
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn end($last: __m256i, $from: i32) -> __m256 {
                _mm256_cvtepi32_ps($end)
            }

            /// Eight rows' scales, and the sums of their block with `N` tokens whose values for unit u lie at
            /// `values(u, t)`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn block<const N: usize>(
                p: *const u8,
                half: usize,
                starts: [i32; N],
                values: impl Fn(usize, usize) -> *const i32,
            ) -> (__m256, [__m256; N]) {
                // SAFETY: the caller has a whole block at `p`, and 32 values for each of the tokens.
                unsafe {
                    let d = _mm256_cvtph_ps(_mm_loadu_si128(p.cast::<__m128i>().add(half)));
                    let mut sums = starts.map(|start| begin(start));
                    for u in 0..4 {
                        let bytes = p.add(NIBBLES + 64 * u).cast::<__m256i>().add(half);
                        let bytes = _mm256_loadu_si256(bytes);
                        let mask = _mm256_set1_epi8(15);
                        let low = _mm256_and_si256(bytes, mask);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                        for t in 0..N {
                            let value = |u| _mm256_set1_epi32(values(u, t).read_unaligned());
                            sums[t] = dot(sums[t], low, value(u));
                            sums[t] = dot(sums[t], high, value(u + 4));
                        }
                    }
                    (d, std::array::from_fn(|t| end(sums[t], starts[t])))
                }
            }

            /// Panels times one token.
            #[target_feature(enable = $features)]
            pub fn gemv(panels: &[u8], x: Row, y: &mut [f32]) {
                check_gemv(panels, &x, y);
                let blocks = x.scales.len();
                for (panel, y) in panels
                    .chunks_exact(blocks * BLOCK_BYTES)
                    .zip(y.chunks_exact_mut(ROWS))
                {
                    let mut acc = [_mm256_setzero_ps(); 2];
                    for b in 0..blocks {
                        ask_ahead::<BLOCK_BYTES>(panel.as_ptr().wrapping_add(b * BLOCK_BYTES));
                        for (half, acc) in acc.iter_mut().enumerate() {
                            // SAFETY: `check_gemv`: the panel has `blocks` blocks, the token 32 values for each.
                            let (d, [sum]) = unsafe {
                                let p = panel.as_ptr().add(b * BLOCK_BYTES);
                                block(p, half, [x.starts[b]], |u, _| {
                                    x.q.as_ptr().cast::<i32>().add(8 * b + u)
                                })
                            };
                            let scales = _mm256_mul_ps(d, _mm256_set1_ps(x.scales[b][0]));
                            *acc = _mm256_fmadd_ps(sum, scales, *acc);
                        }
                    }
                    for (y, acc) in y.as_chunks_mut::<8>().0.iter_mut().zip(acc) {
                        // SAFETY: eight floats.
                        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), acc) };
                    }
                }
            }

            /// One panel times eight tokens.
            #[target_feature(enable = $features)]
            pub fn tile(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
                check_tile(panel, x);
                for first in (0..TOKENS).step_by(PART) {
                    for half in 0..2 {
                        let mut acc = [_mm256_setzero_ps(); PART];
                        for b in 0..x.d.len() {
                            let starts = std::array::from_fn(|t| x.sums[b][2][first + t]);
                            // SAFETY: `check_tile`: the panel has a block for every scale, the tokens 32 values;
                            // values u of a token lie in the 8 columns u / 2.
                            let (d, sums) = unsafe {
                                block::<PART>(
                                    panel.as_ptr().add(b * BLOCK_BYTES),
                                    half,
                                    starts,
                                    |u, t| {
                                        let columns = x.q.as_ptr().add(4 * b + u / 2).cast::<i32>();
                                        columns.add(2 * (first + t) + u % 2)
                                    },
                                )
                            };
                            for t in 0..PART {
                                let scales = _mm256_mul_ps(d, _mm256_set1_ps(x.d[b][first + t]));
                                acc[t] = _mm256_fmadd_ps(sums[t], scales, acc[t]);
                            }
                        }
                        for (out, acc) in out[first..].iter_mut().zip(acc) {
                            // SAFETY: 16 floats, of which this half's 8.
                            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), acc) };
                        }
                    }
                }
            }
        }
    };
}

eight_rows!(
    avx2,
    "avx2,fma,f16c",
    "AVX2 alone.",
    |_start| _mm256_setzero_si256(),
    |sum, w, v| _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, v)),
    |sum, start| {
        let sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
        _mm256_add_epi32(sum, _mm256_set1_epi32(start))
    }
);

eight_rows!(
    vnni,
    "avx2,fma,f16c,avxvnni",
    "AVX-VNNI.",
    |start| _mm256_set1_epi32(start),
    |sum, w, v| _mm256_dpbusd_avx_epi32(sum, w, v),
    |sum, _start| sum
);

/// Sixteen rows' scales and nibbles of unit `u`: the lower ones, the upper ones.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn nibbles(p: *const u8, u: usize) -> (__m512i, __m512i) {
    // SAFETY: the caller has a whole block at `p`.
    let bytes = unsafe { _mm512_loadu_si512(p.add(NIBBLES + 64 * u).cast()) };
    let mask = _mm512_set1_epi32(0x0f0f_0f0f);
    let high = _mm512_and_si512(_mm512_srli_epi32::<4>(bytes), mask);
    (_mm512_and_si512(bytes, mask), high)
}

/// Panels times one token, all sixteen rows in one vector.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn gemv_avx512(panels: &[u8], x: Row, y: &mut [f32]) {
    check_gemv(panels, &x, y);
    let blocks = x.scales.len();
    for (panel, y) in panels
        .chunks_exact(blocks * BLOCK_BYTES)
        .zip(y.chunks_exact_mut(ROWS))
    {
        let mut acc = _mm512_setzero_ps();
        for b in 0..blocks {
            // SAFETY: `check_gemv`: the panel has `blocks` blocks, the token 32 values for each.
            unsafe {
                let p = panel.as_ptr().add(b * BLOCK_BYTES);
                ask_ahead::<BLOCK_BYTES>(p);
                let values = x.q.as_ptr().cast::<i32>().add(8 * b);
                let value = |u| _mm512_set1_epi32(values.add(u).read_unaligned());
                let (mut even, mut odd) = (_mm512_set1_epi32(x.starts[b]), _mm512_setzero_si512());
                for u in 0..4 {
                    let (low, high) = nibbles(p, u);
                    even = _mm512_dpbusd_epi32(even, low, value(u));
                    odd = _mm512_dpbusd_epi32(odd, high, value(u + 4));
                }
                let d = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
                let scales = _mm512_mul_ps(d, _mm512_set1_ps(x.scales[b][0]));
                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                acc = _mm512_fmadd_ps(sum, scales, acc);
            }
        }
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), acc) };
    }
}

/// A pointer that the compiler keeps in a register of its own. It would otherwise address all arrays by one index,
/// and an instruction with three operands and an indexed address takes two places in the processor's front end.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // nothing is read through it there
pub(super) fn apart<T>(mut p: *const T) -> *const T {
    // SAFETY: no instruction; the pointer comes out as it went in.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags));
    }
    p
}

/// One panel times eight tokens.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn tile_avx512(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    check_tile(panel, x);
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    let mut block = panel.as_ptr();
    let mut columns = x.q.as_ptr().cast::<i32>();
    for (d, starts) in x.d.iter().zip(x.sums) {
        // SAFETY: `check_tile`: the panel has a block for every scale, the tokens 32 values for each; values u of a
        // token lie in the 8 columns u / 2.
        unsafe {
            let (p, values) = (apart(block), apart(columns));
            let mut sums: [__m512i; TOKENS] =
                std::array::from_fn(|t| _mm512_set1_epi32(starts[2][t]));
            for u in 0..4 {
                let (low, high) = nibbles(p, u);
                let value = |u: usize, t: usize| {
                    let at = u / 2 * 2 * TOKENS + 2 * t + u % 2;
                    _mm512_set1_epi32(values.add(at).read_unaligned())
                };
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, low, value(u, t));
                }
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, high, value(u + 4, t));
                }
            }
            let rows = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
            for t in 0..TOKENS {
                let scales = _mm512_mul_ps(rows, _mm512_set1_ps(d[t]));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales, acc[t]);
            }
            block = p.add(BLOCK_BYTES);
            columns = values.add(8 * TOKENS);
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
}
