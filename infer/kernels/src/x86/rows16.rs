//! Panels of sixteen rows (layout in `rows16.rs`), times one token or eight, eight rows to a vector.
//!
//! A 4-byte lane holds four of a row's weights, for formats of nibbles weights i .. i + 4 in the lower ones and i + 16
//! .. i + 20 in the upper ones; the token's values for them are broadcast to all lanes, so lanes add up to rows. Q4_0's
//! nibbles are 8 too large, which sums that start at `-8 Σx` undo; VNNI takes Q8_0's bytes 128 too large and starts
//! at `-128 Σx`. With AVX2 alone the products of a whole block of nibbles fit the i16 lanes of `vpmaddubsw`: sixteen of
//! at most 15 × 127 make 30,480; they are widened once a block. Q8_0's magnitudes meet values that carry the sign, two
//! of at most 128 × 127 to a lane. Minima are summed apart from the rest.

use super::dot;
use super::vector::prefetch_ahead;
use crate::activation_tiles::{TOKENS, TileOutput, TokenTile};
use crate::formats::panel_bytes;
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::x86_64::*;

/// Checks that eight tokens fit a panel, which is what makes the kernels' loads sound.
pub(super) fn check_tile<F: Format>(panel: &[u8], x: &TokenTile) {
    let blocks = x.d.len();
    assert!(
        x.cols() == Some(blocks * 32) && panel.len() == blocks * F::BLOCK,
        "tile sizes"
    );
}

/// The initial value of sums of products with a block's unsigned weights, given `-8 Σx`.
#[inline(always)]
pub(super) fn start<F: Format>(less_8: i32) -> i32 {
    match F::TY {
        GgmlType::Q4_0 => less_8,
        GgmlType::Q8_0 => 16 * less_8,
        _ => 0,
    }
}

/// The factors of block `b`'s minima: the tokens' scaled sums.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scaled_sums(x: &TokenTile, b: usize) -> [f32; TOKENS] {
    let (d, [low, high, _]) = (&x.d[b], &x.sums[b]);
    let mut sums = [0.0; TOKENS];
    // SAFETY: arrays of eight numbers.
    unsafe {
        let load = |part: &[i32; TOKENS]| _mm256_loadu_si256(part.as_ptr().cast());
        let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(load(low), load(high)));
        let sum = _mm256_mul_ps(_mm256_loadu_ps(d.as_ptr()), sum);
        _mm256_storeu_ps(sums.as_mut_ptr(), sum);
    }
    sums
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
            fn dot_nibbles($sum: __m256i, $w: __m256i, $v: __m256i) -> __m256i {
                $dot
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn dot_bytes($bytes_sum: __m256i, $bytes: __m256i, $values: __m256i) -> __m256i {
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
            unsafe fn row_scales(p: *const u8, of: usize, half: usize) -> __m256 {
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
                                sums[t] = dot_bytes(sums[t], unit(u), value(u, t));
                            }
                        }
                        return sums.map(|sum| _mm256_cvtepi32_ps(sum));
                    }
                    for u in 0..4 {
                        let mask = _mm256_set1_epi8(15);
                        let low = _mm256_and_si256(unit(u), mask);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(unit(u)), mask);
                        for t in 0..N {
                            sums[t] = dot_nibbles(sums[t], low, value(u, t));
                            sums[t] = dot_nibbles(sums[t], high, value(u + 4, t));
                        }
                    }
                }
                std::array::from_fn(|t| _mm256_cvtepi32_ps(end(sums[t], starts[t])))
            }

            /// Panels times one token.
            #[target_feature(enable = $features)]
            pub fn gemv<F: Format>(panels: &[u8], x: Int8Row, y: &mut [f32]) {
                let (blocks, bytes) = (x.scales.len(), panel_bytes::<F>(panels, &x, y));
                let panels = panels.chunks_exact(bytes);
                for (panel, y) in panels.zip(y.chunks_exact_mut(ROWS)) {
                    let mut acc = [_mm256_setzero_ps(); 2];
                    let mut mins = acc;
                    for b in 0..blocks {
                        prefetch_ahead(panel.as_ptr().wrapping_add(b * F::BLOCK), F::BLOCK);
                        let [scale, s] = x.scales[b];
                        for half in 0..2 {
                            // SAFETY: `panel_bytes`: the panel has `blocks` blocks, the token 32 values for each.
                            unsafe {
                                let p = panel.as_ptr().add(b * F::BLOCK);
                                let [sum] = block::<F, 1>(p, half, [x.starts[b]], |u, _| {
                                    x.q.as_ptr().cast::<i32>().add(8 * b + u)
                                });
                                let scales =
                                    _mm256_mul_ps(row_scales(p, 0, half), _mm256_set1_ps(scale));
                                acc[half] = _mm256_fmadd_ps(sum, scales, acc[half]);
                                if F::MIN {
                                    let m = row_scales(p, 1, half);
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
            pub fn tile<F: Format>(panel: &[u8], x: &TokenTile, out: &mut TileOutput) {
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
                                (row_scales(p, 0, half), sums)
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
                x: &TokenTile,
                first: usize,
                half: usize,
            ) -> [__m256; PART] {
                let mut mins = [_mm256_setzero_ps(); PART];
                for b in 0..x.d.len() {
                    let sums = scaled_sums(x, b);
                    // SAFETY: `check_tile`: the panel has a block for every scale.
                    let m = unsafe { row_scales(panel.as_ptr().add(b * F::BLOCK), 1, half) };
                    for (min, s) in mins.iter_mut().zip(&sums[first..]) {
                        *min = _mm256_fmadd_ps(m, _mm256_set1_ps(*s), *min);
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
    |sum, w, v| dot::avx2::dot_signed(sum, w, v)
);

eight_rows!(
    vnni,
    "avx2,fma,f16c,avxvnni",
    "AVX-VNNI.",
    |start| _mm256_set1_epi32(start),
    |sum, w, v| dot::vnni::dot(sum, w, v),
    |sum, _start| sum,
    |sum, w, v| dot::vnni::dot(sum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), v)
);
