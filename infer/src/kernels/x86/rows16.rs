//! Panels of sixteen rows (layout in `rows16.rs`), times one token or eight.
//!
//! A 4-byte lane holds four of a row's weights, for formats of nibbles weights i .. i + 4 in the lower ones and i + 16
//! .. i + 20 in the upper ones; the token's values for them are broadcast to all lanes, so lanes add up to rows. Q4_0's
//! nibbles are 8 too large, which sums that start at `-8 Σx` undo; VNNI takes Q8_0's bytes 128 too large and starts
//! at `-128 Σx`. With AVX2 alone the products of a whole block of nibbles fit the i16 lanes of `vpmaddubsw`: sixteen of
//! at most 15 × 127 make 30,480; they are widened once a block. Q8_0's magnitudes meet values that carry the sign, two
//! of at most 128 × 127 to a lane. Minima are summed apart from the rest.

use super::ask_ahead;
use crate::kernels::activations::Row;
use crate::kernels::panel::ROWS;
use crate::kernels::rows16::Format;
use crate::kernels::tokens::{TOKENS, Tokens};
use crate::quant::GgmlType;
use std::arch::x86_64::*;

/// Checks that one token fits the panels, which is what makes the kernels' loads sound.
fn check_gemv<F: Format>(panels: &[u8], x: &Row, y: &[f32]) {
    let blocks = x.scales.len();
    assert!(
        x.q.len() == blocks * 32
            && x.starts.len() == blocks
            && y.len().is_multiple_of(ROWS)
            && panels.len() == y.len() / ROWS * blocks * F::BLOCK,
        "gemv sizes"
    );
}

/// The same for eight tokens and one panel.
fn check_tile<F: Format>(panel: &[u8], x: &Tokens) {
    let blocks = x.d.len();
    assert!(
        x.cols() == Some(blocks * 32) && panel.len() == blocks * F::BLOCK,
        "tile sizes"
    );
}

/// What sums of products with a block's unsigned weights start from, given `-8 Σx`.
#[inline(always)]
fn start<F: Format>(less_8: i32) -> i32 {
    match F::TY {
        GgmlType::Q4_0 => less_8,
        GgmlType::Q8_0 => 16 * less_8,
        _ => 0,
    }
}

/// Kernels of eight rows at a time: `$begin(start)`, `$dot(sum, u8x32, i8x32)` and `$end(sum, start) -> i32x8` for
/// nibbles, `$signed(sum, i8x32, i8x32)` for bytes, of which the second are never -128.
macro_rules! eight_rows {
    ($name:ident, $features:literal, $doc:literal, |$start:ident| $begin:expr, |$sum:ident, $w:ident, $v:ident| $dot:expr, |$last:ident, $from:ident| $end:expr, |$bytes_sum:ident, $bytes:ident, $values:ident| $signed:expr) => {
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
            fn dot_signed($bytes_sum: __m256i, $bytes: __m256i, $values: __m256i) -> __m256i {
                $signed
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn begin($start: i32) -> __m256i {
                $begin
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn end($last: __m256i, $from: i32) -> __m256i {
                $end
            }

            /// Eight of a block's scales, or with `of` 1 of its minima.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn halves(p: *const u8, of: usize, half: usize) -> __m256 {
                // SAFETY: the caller has a whole block at `p`, of a format with minima if they are asked for.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast::<__m128i>().add(2 * of + half))) }
            }

            /// Eight rows' sums of their block with `N` tokens whose values for unit u lie at `values(u, t)`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn block<F: Format, const N: usize>(
                p: *const u8,
                half: usize,
                less_8: [i32; N],
                values: impl Fn(usize, usize) -> *const i32,
            ) -> [__m256; N] {
                let starts = less_8.map(start::<F>);
                let mut sums = starts.map(|start| begin(start));
                // SAFETY: the caller has a whole block at `p`, and 32 values for each of the tokens.
                unsafe {
                    let value = |u, t| _mm256_set1_epi32(values(u, t).read_unaligned());
                    let unit = |u| {
                        let units = p.add(F::WEIGHTS).cast::<__m256i>();
                        _mm256_loadu_si256(units.add(2 * u + half))
                    };
                    if !F::NIBBLES {
                        for u in 0..8 {
                            for t in 0..N {
                                sums[t] = dot_signed(sums[t], unit(u), value(u, t));
                            }
                        }
                        return sums.map(|sum| _mm256_cvtepi32_ps(sum));
                    }
                    for u in 0..4 {
                        let mask = _mm256_set1_epi8(15);
                        let low = _mm256_and_si256(unit(u), mask);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(unit(u)), mask);
                        for t in 0..N {
                            sums[t] = dot(sums[t], low, value(u, t));
                            sums[t] = dot(sums[t], high, value(u + 4, t));
                        }
                    }
                }
                std::array::from_fn(|t| _mm256_cvtepi32_ps(end(sums[t], starts[t])))
            }

            /// Panels times one token.
            #[target_feature(enable = $features)]
            pub fn gemv<F: Format>(panels: &[u8], x: Row, y: &mut [f32]) {
                check_gemv::<F>(panels, &x, y);
                let blocks = x.scales.len();
                for (panel, y) in panels
                    .chunks_exact(blocks * F::BLOCK)
                    .zip(y.chunks_exact_mut(ROWS))
                {
                    let mut acc = [_mm256_setzero_ps(); 2];
                    let mut mins = acc;
                    for b in 0..blocks {
                        ask_ahead(panel.as_ptr().wrapping_add(b * F::BLOCK), F::BLOCK);
                        let [scale, s] = x.scales[b];
                        for half in 0..2 {
                            // SAFETY: `check_gemv`: the panel has `blocks` blocks, the token 32 values for each.
                            unsafe {
                                let p = panel.as_ptr().add(b * F::BLOCK);
                                let [sum] = block::<F, 1>(p, half, [x.starts[b]], |u, _| {
                                    x.q.as_ptr().cast::<i32>().add(8 * b + u)
                                });
                                let scales =
                                    _mm256_mul_ps(halves(p, 0, half), _mm256_set1_ps(scale));
                                acc[half] = _mm256_fmadd_ps(sum, scales, acc[half]);
                                if F::MIN {
                                    let m = halves(p, 1, half);
                                    mins[half] = _mm256_fmadd_ps(m, _mm256_set1_ps(s), mins[half]);
                                }
                            }
                        }
                    }
                    for (half, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                        if F::MIN {
                            acc[half] = _mm256_add_ps(acc[half], mins[half]);
                        }
                        // SAFETY: eight floats.
                        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), acc[half]) };
                    }
                }
            }

            /// One panel times eight tokens.
            #[target_feature(enable = $features)]
            pub fn tile<F: Format>(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
                check_tile::<F>(panel, x);
                for first in (0..TOKENS).step_by(PART) {
                    for half in 0..2 {
                        let mut acc = [_mm256_setzero_ps(); PART];
                        for b in 0..x.d.len() {
                            let less_8 = std::array::from_fn(|t| x.sums[b][2][first + t]);
                            // SAFETY: `check_tile`: the panel has a block for every scale, the tokens 32 values;
                            // values u of a token lie in the 8 columns u / 2.
                            let (d, sums) = unsafe {
                                let p = panel.as_ptr().add(b * F::BLOCK);
                                let sums = block::<F, PART>(p, half, less_8, |u, t| {
                                    let columns = x.q.as_ptr().add(4 * b + u / 2).cast::<i32>();
                                    columns.add(2 * (first + t) + u % 2)
                                });
                                (halves(p, 0, half), sums)
                            };
                            for t in 0..PART {
                                let scales = _mm256_mul_ps(d, _mm256_set1_ps(x.d[b][first + t]));
                                acc[t] = _mm256_fmadd_ps(sums[t], scales, acc[t]);
                            }
                        }
                        if F::MIN {
                            let mins = minima::<F>(panel, x, first, half);
                            acc = std::array::from_fn(|t| _mm256_add_ps(acc[t], mins[t]));
                        }
                        for (out, acc) in out[first..].iter_mut().zip(acc) {
                            // SAFETY: 16 floats, of which this half's 8.
                            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), acc) };
                        }
                    }
                }
            }

            /// The minima's part of eight rows and `PART` tokens, for which there are no registers left in the sums'
            /// loop.
            #[inline]
            #[target_feature(enable = $features)]
            fn minima<F: Format>(
                panel: &[u8],
                x: &Tokens,
                first: usize,
                half: usize,
            ) -> [__m256; PART] {
                let mut mins = [_mm256_setzero_ps(); PART];
                for (b, (d, [low, high, _])) in x.d.iter().zip(x.sums).enumerate() {
                    // SAFETY: `check_tile`: the panel has a block for every scale.
                    let m = unsafe { halves(panel.as_ptr().add(b * F::BLOCK), 1, half) };
                    for (t, min) in mins.iter_mut().enumerate() {
                        let s = d[first + t] * (low[first + t] + high[first + t]) as f32;
                        *min = _mm256_fmadd_ps(m, _mm256_set1_ps(s), *min);
                    }
                }
                mins
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
    },
    |sum, w, v| {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(v, w));
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
);

eight_rows!(
    vnni,
    "avx2,fma,f16c,avxvnni",
    "AVX-VNNI.",
    |start| _mm256_set1_epi32(start),
    |sum, w, v| _mm256_dpbusd_avx_epi32(sum, w, v),
    |sum, _start| sum,
    |sum, w, v| _mm256_dpbusd_avx_epi32(sum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), v)
);

/// Unit `u` of sixteen rows as unsigned weights: the lower nibbles and the upper ones, or units 2u and 2u + 1 of bytes,
/// 128 too large. They meet values `first` and `second`.
struct Unit {
    low: __m512i,
    high: __m512i,
    first: usize,
    second: usize,
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn unit<F: Format>(p: *const u8, u: usize) -> Unit {
    // SAFETY: the caller has a whole block at `p`.
    let load = |u: usize| unsafe { _mm512_loadu_si512(p.add(F::WEIGHTS + 64 * u).cast()) };
    if F::NIBBLES {
        let mask = _mm512_set1_epi32(0x0f0f_0f0f);
        return Unit {
            low: _mm512_and_si512(load(u), mask),
            high: _mm512_and_si512(_mm512_srli_epi32::<4>(load(u)), mask),
            first: u,
            second: u + 4,
        };
    }
    let flip = _mm512_set1_epi32(0x8080_8080_u32 as i32);
    Unit {
        low: _mm512_xor_si512(load(2 * u), flip),
        high: _mm512_xor_si512(load(2 * u + 1), flip),
        first: 2 * u,
        second: 2 * u + 1,
    }
}

/// Sixteen scales of a block, or with `of` 1 its minima.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(p: *const u8, of: usize) -> __m512 {
    // SAFETY: the caller has a whole block at `p`, of a format with minima if they are asked for.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast::<__m256i>().add(of))) }
}

/// Panels times one token, all sixteen rows in one vector.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn gemv_avx512<F: Format>(panels: &[u8], x: Row, y: &mut [f32]) {
    check_gemv::<F>(panels, &x, y);
    let blocks = x.scales.len();
    for (panel, y) in panels
        .chunks_exact(blocks * F::BLOCK)
        .zip(y.chunks_exact_mut(ROWS))
    {
        let (mut acc, mut mins) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for b in 0..blocks {
            // SAFETY: `check_gemv`: the panel has `blocks` blocks, the token 32 values for each.
            unsafe {
                let p = panel.as_ptr().add(b * F::BLOCK);
                ask_ahead(p, F::BLOCK);
                let values = x.q.as_ptr().cast::<i32>().add(8 * b);
                let value = |u| _mm512_set1_epi32(values.add(u).read_unaligned());
                let mut even = _mm512_set1_epi32(start::<F>(x.starts[b]));
                let mut odd = _mm512_setzero_si512();
                for u in 0..4 {
                    let w = unit::<F>(p, u);
                    even = _mm512_dpbusd_epi32(even, w.low, value(w.first));
                    odd = _mm512_dpbusd_epi32(odd, w.high, value(w.second));
                }
                let [scale, s] = x.scales[b];
                let scales = _mm512_mul_ps(halves(p, 0), _mm512_set1_ps(scale));
                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                acc = _mm512_fmadd_ps(sum, scales, acc);
                if F::MIN {
                    mins = _mm512_fmadd_ps(halves(p, 1), _mm512_set1_ps(s), mins);
                }
            }
        }
        if F::MIN {
            acc = _mm512_add_ps(acc, mins);
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
pub(super) fn tile_avx512<F: Format>(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    check_tile::<F>(panel, x);
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    let mut mins = acc;
    let mut block = panel.as_ptr();
    let mut columns = x.q.as_ptr().cast::<i32>();
    for (d, [low, high, less_8]) in x.d.iter().zip(x.sums) {
        // SAFETY: `check_tile`: the panel has a block for every scale, the tokens 32 values for each; values u of a
        // token lie in the 8 columns u / 2.
        unsafe {
            let (p, values) = (apart(block), apart(columns));
            let mut sums: [__m512i; TOKENS] =
                std::array::from_fn(|t| _mm512_set1_epi32(start::<F>(less_8[t])));
            for u in 0..4 {
                let w = unit::<F>(p, u);
                let value = |u: usize, t: usize| {
                    let at = u / 2 * 2 * TOKENS + 2 * t + u % 2;
                    _mm512_set1_epi32(values.add(at).read_unaligned())
                };
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, w.low, value(w.first, t));
                }
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, w.high, value(w.second, t));
                }
            }
            let rows = halves(p, 0);
            for t in 0..TOKENS {
                let scales = _mm512_mul_ps(rows, _mm512_set1_ps(d[t]));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales, acc[t]);
            }
            if F::MIN {
                let rows = halves(p, 1);
                for t in 0..TOKENS {
                    let s = d[t] * (low[t] + high[t]) as f32;
                    mins[t] = _mm512_fmadd_ps(rows, _mm512_set1_ps(s), mins[t]);
                }
            }
            block = p.add(F::BLOCK);
            columns = values.add(8 * TOKENS);
        }
    }
    for (out, (acc, min)) in out.iter_mut().zip(acc.into_iter().zip(mins)) {
        let sum = if F::MIN { _mm512_add_ps(acc, min) } else { acc };
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
}
