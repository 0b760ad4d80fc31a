//! One token times rows in the file's layout, one row after another, so that memory is read in one straight line:
//! two rows side by side share the activations' loads but defeat the hardware's prefetching, which made reading from
//! memory four times slower.
//!
//! Per block of 32 weights: one i32x8 of integer sums, one multiply-add into eight f32 lanes. The scales ride in one
//! small vector: `[d_w, m_w] * [d_x, s_x] = [scale, min]`, of which the first is broadcast and the second summed on
//! its own. Q4_0's `q - 8` is taken as a minimum of `-8 d`, Q5_0's `q - 16` as one
//! of `-16 d`, so these formats multiply unsigned numbers.

use super::dot;
use super::vector::{prefetch_ahead, sum};
use crate::formats::{RowFormat, row_by_row};
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use std::arch::x86_64::*;

/// 16 bytes to 32 nibbles, the low ones first.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(p: *const u8) -> __m256i {
    // SAFETY: the caller's block has 16 bytes here.
    let bytes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(p.cast()) });
    let shifted = _mm256_srlv_epi64(bytes, _mm256_set_epi64x(4, 4, 0, 0));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// 16 for every one of 32 bits that is set.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fifth_bits(p: *const u8) -> __m256i {
    // SAFETY: the caller's block has 4 bytes here.
    let bits = _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() });
    let byte = |i: i64| i * 0x0101_0101_0101_0101;
    let order = _mm256_set_epi64x(byte(3), byte(2), byte(1), byte(0));
    let places = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, order), places);
    _mm256_and_si256(_mm256_cmpeq_epi8(bits, places), _mm256_set1_epi8(16))
}

/// The unsigned weights of a block of any format but Q8_0.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weights<F: RowFormat>(p: *const u8) -> __m256i {
    let at = F::BYTES - 16;
    // SAFETY: the caller has a whole block here, which ends in nibbles, behind their fifth bits if it has any.
    unsafe {
        match F::TY {
            GgmlType::Q5_0 | GgmlType::Q5_1 => {
                let high = fifth_bits(p.add(at - 4));
                _mm256_or_si256(nibbles(p.add(at)), high)
            }
            _ => nibbles(p.add(at)),
        }
    }
}

/// `[d, m]` of a block as f32; for formats without a minimum, whose second pair of bytes is none, `[d, d]`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scale_min<F: RowFormat>(p: *const u8) -> __m128 {
    // SAFETY: every block has at least 4 bytes.
    let pair = _mm_cvtph_ps(_mm_cvtsi32_si128(unsafe {
        p.cast::<i32>().read_unaligned()
    }));
    if F::MIN { pair } else { _mm_moveldup_ps(pair) }
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
                let zero = _mm256_setzero_si256();
                let (mut sums, mut mins) = (_mm256_setzero_ps(), _mm_setzero_ps());
                let mut q = x.q.as_ptr();
                for scale in x.scales {
                    // SAFETY: the row has as many blocks as `x` has scales, `x` has 32 values for each (see `gemv`),
                    // and a scale is two floats.
                    unsafe {
                        prefetch_ahead(w, 1);
                        let values = _mm256_loadu_si256(q.cast());
                        let ds = _mm_castpd_ps(_mm_load_sd(scale.as_ptr().cast()));
                        let ints = match F::TY {
                            GgmlType::Q8_0 => {
                                dot_signed(zero, _mm256_loadu_si256(w.add(2).cast()), values)
                            }
                            _ => dot(zero, weights::<F>(w), values),
                        };
                        let scales = _mm_mul_ps(scale_min::<F>(w), ds);
                        if F::TY != GgmlType::Q8_0 {
                            mins = _mm_add_ps(mins, scales);
                        }
                        sums = _mm256_fmadd_ps(
                            _mm256_cvtepi32_ps(ints),
                            _mm256_broadcastss_ps(scales),
                            sums,
                        );
                        w = w.add(F::BYTES);
                        q = q.add(32);
                    }
                }
                let min = _mm_cvtss_f32(_mm_movehdup_ps(mins));
                sum(sums)
                    + match F::TY {
                        GgmlType::Q4_0 => -8.0 * min,
                        GgmlType::Q5_0 => -16.0 * min,
                        _ => min,
                    }
            }

            row_by_row!($features);
        }
    };
}

kernels!(avx2, "avx2,fma,f16c");
kernels!(vnni, "avx2,fma,f16c,avxvnni");
