//! One token times rows of the K formats as they lie in a file (layouts in `quant/k.rs`), one row after another.
//!
//! A block of 256 weights meets eight blocks of activations. The products of 32 weights are four neighbours to an i32
//! lane; what they are multiplied with comes from the block's scale, its groups' integer scales and the activations'
//! scales, eight at a time. Minima meet the activations' sums likewise. Q6_K's groups of 16 are the halves of a vector;
//! its weights are signed, so magnitudes are multiplied with values that carry the sign.

use super::dot;
use super::vector::{prefetch_ahead, sum};
use crate::formats::{RowFormat, row_by_row};
use crate::int8::{Int8Row, Scale};
use retort_format::quant::GgmlType;
use retort_format::quant::k::scales_mins;
use std::arch::x86_64::*;

/// Bits shifted up by `n` places, or down; bytes mix, so the caller masks what is its own.
#[inline]
#[target_feature(enable = "avx2")]
fn shifted(v: __m256i, n: i32) -> __m256i {
    if n >= 0 {
        _mm256_sll_epi32(v, _mm_cvtsi32_si128(n))
    } else {
        _mm256_srl_epi32(v, _mm_cvtsi32_si128(-n))
    }
}

/// Weights `32 g .. 32 g + 32` of a block, without scale and minimum.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weights<F: RowFormat>(p: *const u8, g: usize) -> __m256i {
    // SAFETY: the caller has a whole block of `F::BYTES` bytes at `p`, and all places below lie in it.
    let load = |at: usize| unsafe { _mm256_loadu_si256(p.add(at).cast()) };
    let nibbles = |at: usize, upper: bool| {
        let bytes = shifted(load(at), if upper { -4 } else { 0 });
        _mm256_and_si256(bytes, _mm256_set1_epi8(15))
    };
    match F::TY {
        GgmlType::Q4_K => nibbles(16 + g / 2 * 32, g % 2 == 1),
        GgmlType::Q5_K => {
            let fifth = _mm256_and_si256(shifted(load(16), 4 - g as i32), _mm256_set1_epi8(16));
            _mm256_or_si256(nibbles(48 + g / 2 * 32, g % 2 == 1), fifth)
        }
        _ => {
            let (half, part) = (g / 4, g % 4);
            let pair = shifted(load(128 + 32 * half), 4 - 2 * part as i32);
            let pair = _mm256_and_si256(pair, _mm256_set1_epi8(48));
            let q = _mm256_or_si256(nibbles(64 * half + part % 2 * 32, part >= 2), pair);
            _mm256_sub_epi8(q, _mm256_set1_epi8(32))
        }
    }
}

/// Eight activation blocks' scales and their scaled sums.
#[inline]
#[target_feature(enable = "avx2")]
fn scales_sums(x: &[Scale; 8]) -> (__m256, __m256) {
    // SAFETY: sixteen floats.
    let (a, b) = unsafe {
        let x = x.as_ptr().cast::<f32>();
        (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)))
    };
    let order = |v| {
        let v = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v));
        _mm256_castpd_ps(v)
    };
    (
        order(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)),
        order(_mm256_shuffle_ps::<0b11_01_11_01>(a, b)),
    )
}

/// Eight integers as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn floats(bytes: [u8; 8], signed: bool) -> __m256 {
    let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(bytes));
    _mm256_cvtepi32_ps(match signed {
        true => _mm256_cvtepi8_epi32(bytes),
        false => _mm256_cvtepu8_epi32(bytes),
    })
}

/// A number in half precision to all lanes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn broadcast_f16(p: *const u8) -> __m256 {
    // SAFETY: the caller has two bytes at `p`.
    let bits = unsafe { p.cast::<u16>().read_unaligned() };
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
}

/// Factors of the integer sums of a block's eight groups (Q6_K: sixteen): the block's scale times the group's times
/// the activations'. Subtracts the minima's part from `mins`, a group to a lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn factors<F: RowFormat>(p: *const u8, x: &[Scale; 8], mins: &mut __m256) -> [f32; 16] {
    let mut out = [0.0; 16];
    let (scales, sums) = scales_sums(x);
    // SAFETY: the caller has a whole block at `p`; sixteen floats of room.
    unsafe {
        let to = out.as_mut_ptr();
        if F::TY == GgmlType::Q6_K {
            let d = broadcast_f16(p.add(208));
            let groups = p.add(192).cast::<[u8; 8]>();
            for i in 0..2 {
                let first = 4 * i as i32;
                let twice = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
                let twice = _mm256_add_epi32(twice, _mm256_set1_epi32(first));
                let scales = _mm256_permutevar8x32_ps(scales, twice);
                let d = _mm256_mul_ps(d, floats(groups.add(i).read(), true));
                _mm256_storeu_ps(to.add(8 * i), _mm256_mul_ps(d, scales));
            }
        } else {
            let [groups, minima] = scales_mins(&*p.add(4).cast());
            let d = _mm256_mul_ps(broadcast_f16(p), floats(groups, false));
            _mm256_storeu_ps(to, _mm256_mul_ps(d, scales));
            let m = _mm256_mul_ps(broadcast_f16(p.add(2)), floats(minima, false));
            *mins = _mm256_fnmadd_ps(m, sums, *mins);
        }
    }
    out
}

macro_rules! kernels {
    ($name:ident, $features:literal) => {
        pub(super) mod $name {
            use super::dot::$name::{dot, dot_signed};
            use super::*;

            /// One row.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row<F: RowFormat>(mut w: *const u8, x: Int8Row) -> f32 {
                let (zero, mut mins) = (_mm256_setzero_si256(), _mm256_setzero_ps());
                let mut sums = [_mm256_setzero_ps(); 2];
                let mut q = x.q.as_ptr();
                for scales in x.scales.as_chunks::<8>().0 {
                    prefetch_ahead(w, F::BYTES);
                    // SAFETY: the row has a block for every eight scales of `x`, which has 32 values for each.
                    unsafe {
                        let factors = factors::<F>(w, scales, &mut mins);
                        for g in 0..8 {
                            let values = _mm256_loadu_si256(q.add(32 * g).cast());
                            let w = weights::<F>(w, g);
                            let ints = match F::TY {
                                GgmlType::Q6_K => dot_signed(zero, w, values),
                                _ => dot(zero, w, values),
                            };
                            let factor = match F::TY {
                                GgmlType::Q6_K => _mm256_set_m128(
                                    _mm_set1_ps(factors[2 * g + 1]),
                                    _mm_set1_ps(factors[2 * g]),
                                ),
                                _ => _mm256_set1_ps(factors[g]),
                            };
                            let sum = &mut sums[g % 2];
                            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(ints), factor, *sum);
                        }
                        w = w.add(F::BYTES);
                        q = q.add(256);
                    }
                }
                sum(_mm256_add_ps(sums[0], sums[1])) + sum(mins)
            }

            row_by_row!($features);
        }
    };
}

kernels!(avx2, "avx2,fma,f16c");
kernels!(vnni, "avx2,fma,f16c,avxvnni");
kernels!(avx512, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni");
