//! One token times rows in the file's layout, one row after another, so that memory is read in one straight line:
//! two rows side by side share the activations' loads but defeat the hardware's prefetching, which made reading from
//! memory four times slower.
//!
//! Per block of 32 weights: one i32x8 of integer sums, one multiply-add into eight f32 lanes. The scales ride in one
//! small vector: `[d_w, m_w] * [d_x, s_x] = [scale, min]`, of which the first is broadcast and the second summed on
//! its own. Q4_0's `q - 8` is taken as a minimum of `-8 d`, Q5_0's `q - 16` as one
//! of `-16 d`, so these formats multiply unsigned numbers.

/// Formats.
const Q4_0: usize = 0;
const Q4_1: usize = 1;
const Q5_0: usize = 2;
const Q5_1: usize = 3;
const Q8_0: usize = 4;

const fn bytes(format: usize) -> usize {
    [18, 20, 22, 24, 34][format]
}

/// The product kernels for one way of multiplying bytes: `$dot(u8x32, i8x32) -> i32x8`, sums of four neighbours.
macro_rules! kernels {
    ($name:ident, $features:literal, $doc:literal, |$u:ident, $s:ident| $dot:expr) => {
        #[doc = $doc]
        pub(in super::super) mod $name {
            use super::super::{ask_ahead, sum};
            use super::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, bytes};
            use crate::activations::Row;
            use std::arch::x86_64::*;

            #[inline]
            #[target_feature(enable = $features)]
            fn dot($u: __m256i, $s: __m256i) -> __m256i {
                $dot
            }

            /// Signed times signed: magnitudes times values that carry the other's sign. `x` never holds -128.
            #[inline]
            #[target_feature(enable = $features)]
            fn dot_signed(w: __m256i, x: __m256i) -> __m256i {
                dot(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            }

            /// 16 bytes to 32 nibbles, the low ones first.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn nibbles(p: *const u8) -> __m256i {
                // SAFETY: the caller's block has 16 bytes here.
                let bytes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(p.cast()) });
                let shifted = _mm256_srlv_epi64(bytes, _mm256_set_epi64x(4, 4, 0, 0));
                _mm256_and_si256(shifted, _mm256_set1_epi8(15))
            }

            /// 16 for every one of 32 bits that is set.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn fifths(p: *const u8) -> __m256i {
                // SAFETY: the caller's block has 4 bytes here.
                let bits = _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() });
                let byte = |i: i64| i * 0x0101_0101_0101_0101;
                let order = _mm256_set_epi64x(byte(3), byte(2), byte(1), byte(0));
                let places = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
                let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, order), places);
                _mm256_and_si256(_mm256_cmpeq_epi8(bits, places), _mm256_set1_epi8(16))
            }

            /// `[d, m]` of a block as f32; for formats without a minimum, whose second pair of bytes is none, `[d, d]`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn pair<const MIN: bool>(p: *const u8) -> __m128 {
                // SAFETY: every block has at least 4 bytes.
                let pair = _mm_cvtph_ps(_mm_cvtsi32_si128(unsafe {
                    p.cast::<i32>().read_unaligned()
                }));
                if MIN { pair } else { _mm_moveldup_ps(pair) }
            }

            /// One row.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row<const F: usize>(mut w: *const u8, x: Row) -> f32 {
                let (mut sums, mut mins) = (_mm256_setzero_ps(), _mm_setzero_ps());
                let mut q = x.q.as_ptr();
                for scale in x.scales {
                    // SAFETY: the row has as many blocks as `x` has scales, `x` has 32 values for each (see `gemv`),
                    // and a scale is two floats.
                    unsafe {
                        ask_ahead(w, 1);
                        let values = _mm256_loadu_si256(q.cast());
                        let ds = _mm_castpd_ps(_mm_load_sd(scale.as_ptr().cast()));
                        let ints = match F {
                            Q4_0 => dot(nibbles(w.add(2)), values),
                            Q4_1 => dot(nibbles(w.add(4)), values),
                            Q5_0 | Q5_1 => {
                                let at = bytes(F) - 16;
                                let high = fifths(w.add(at - 4));
                                dot(_mm256_or_si256(nibbles(w.add(at)), high), values)
                            }
                            _ => dot_signed(_mm256_loadu_si256(w.add(2).cast()), values),
                        };
                        let scales = if F == Q4_1 || F == Q5_1 {
                            _mm_mul_ps(pair::<true>(w), ds)
                        } else {
                            _mm_mul_ps(pair::<false>(w), ds)
                        };
                        if F != Q8_0 {
                            mins = _mm_add_ps(mins, scales);
                        }
                        sums = _mm256_fmadd_ps(
                            _mm256_cvtepi32_ps(ints),
                            _mm256_broadcastss_ps(scales),
                            sums,
                        );
                        w = w.add(bytes(F));
                        q = q.add(32);
                    }
                }
                let min = _mm_cvtss_f32(_mm_movehdup_ps(mins));
                sum(sums)
                    + match F {
                        Q4_0 => -8.0 * min,
                        Q5_0 => -16.0 * min,
                        _ => min,
                    }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn gemv<const F: usize>(w: &[u8], x: Row, y: &mut [f32]) {
                let stride = x.scales.len() * bytes(F);
                assert!(
                    x.q.len() == x.scales.len() * 32 && w.len() == y.len() * stride,
                    "gemv sizes"
                );
                for (y, w) in y.iter_mut().zip(w.chunks_exact(stride)) {
                    // SAFETY: by the assertion a row has a block for every scale, and there are 32 values per scale.
                    *y = unsafe { row::<F>(w.as_ptr(), x) };
                }
            }

            #[target_feature(enable = $features)]
            pub fn q4_0(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q4_0>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q4_1(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q4_1>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q5_0(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q5_0>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q5_1(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q5_1>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q8_0(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q8_0>(w, x, y);
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", "AVX2 alone.", |u, s| {
    _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1))
});
kernels!(vnni, "avx2,fma,f16c,avxvnni", "AVX-VNNI.", |u, s| {
    _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, s)
});
