//! One token times rows in the file's layout, one row after another, so that memory is read in one straight line:
//! two rows side by side share the activations' loads but defeat the hardware's prefetching, which made reading from
//! memory four times slower.
//!
//! Per block of 32 weights: one i32x8 of integer sums, one multiply-add into eight f32 lanes. The scales ride in one
//! small vector: `[d_w, m_w] * [d_x, s_x] = [scale, min]`, of which the first is broadcast and the second summed on
//! its own. Q4_0's `q - 8` is taken as a minimum of `-8 d`, so both 4-bit formats multiply unsigned nibbles.

/// The product kernels for one way of multiplying bytes: `$dot(u8x32, i8x32) -> i32x8`, sums of four neighbours.
macro_rules! kernels {
    ($name:ident, $features:literal, $doc:literal, |$u:ident, $s:ident| $dot:expr) => {
        #[doc = $doc]
        pub(in super::super) mod $name {
            use super::super::ask_ahead;
            use crate::kernels::activations::Row;
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

            #[inline]
            #[target_feature(enable = $features)]
            fn sum(v: __m256) -> f32 {
                let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
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

            /// `[d, m]` of a block as f32; for Q4_0 and Q8_0, whose second pair of bytes are weights, `[d, d]`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn pair<const MIN: bool>(p: *const u8) -> __m128 {
                // SAFETY: every block has at least 4 bytes.
                let pair = _mm_cvtph_ps(_mm_cvtsi32_si128(unsafe {
                    p.cast::<i32>().read_unaligned()
                }));
                if MIN { pair } else { _mm_moveldup_ps(pair) }
            }

            const Q4_0: usize = 0;
            const Q4_1: usize = 1;
            const Q8_0: usize = 2;

            const fn bytes(format: usize) -> usize {
                [18, 20, 34][format]
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
                        ask_ahead::<1>(w);
                        let values = _mm256_loadu_si256(q.cast());
                        let ds = _mm_castpd_ps(_mm_load_sd(scale.as_ptr().cast()));
                        let ints = match F {
                            Q4_0 => dot(nibbles(w.add(2)), values),
                            Q4_1 => dot(nibbles(w.add(4)), values),
                            _ => dot_signed(_mm256_loadu_si256(w.add(2).cast()), values),
                        };
                        let scales = if F == Q4_1 {
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
                sum(sums) + if F == Q4_0 { -8.0 * min } else { min }
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
