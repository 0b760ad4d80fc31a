//! One token times a row that was unpacked to `w = d q + m` first: formats without a kernel of their own.

use crate::kernels::activations::Row;
use std::arch::x86_64::*;

/// `$dot(u8x32, i8x32) -> i32x8`: sums of four neighbours.
macro_rules! kernels {
    ($name:ident, $features:literal, $doc:literal, |$u:ident, $s:ident| $dot:expr) => {
        #[doc = $doc]
        pub(super) mod $name {
            use super::*;

            /// Signed times signed: magnitudes times values that carry the other's sign. `x` never holds -128.
            #[inline]
            #[target_feature(enable = $features)]
            fn dot_signed(w: __m256i, x: __m256i) -> __m256i {
                let ($u, $s) = (_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                $dot
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn sum(v: __m256) -> f32 {
                let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
            }

            /// An unpacked row times one token; with groups of 16, each half of the sums has its own scale.
            #[target_feature(enable = $features)]
            pub fn dot_unpacked<const G: usize>(q: &[i8], d: &[f32], m: &[f32], x: Row) -> f32 {
                let (mut sums, mut min) = (_mm256_setzero_ps(), 0f32);
                let (weights, _) = q.as_chunks::<32>();
                let (values, _) = x.q.as_chunks::<32>();
                for (b, ((w, q), [scale, s])) in
                    weights.iter().zip(values).zip(x.scales).enumerate()
                {
                    // SAFETY: both are references to 32 bytes.
                    let ints = unsafe {
                        dot_signed(
                            _mm256_loadu_si256(w.as_ptr().cast()),
                            _mm256_loadu_si256(q.as_ptr().cast()),
                        )
                    };
                    let scales = if G == 16 {
                        _mm256_set_m128(
                            _mm_set1_ps(d[2 * b + 1] * scale),
                            _mm_set1_ps(d[2 * b] * scale),
                        )
                    } else {
                        min += m[b] * s;
                        _mm256_set1_ps(d[b] * scale)
                    };
                    sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(ints), scales, sums);
                }
                sum(sums) + min
            }
        }
    };
}

kernels!(avx2, "avx2,fma", "AVX2 alone.", |u, s| {
    _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1))
});
kernels!(vnni, "avx2,fma,avxvnni", "AVX-VNNI.", |u, s| {
    _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, s)
});
kernels!(
    avx512,
    "avx2,fma,avx512f,avx512vl,avx512vnni",
    "AVX-512 VNNI on 256 bits.",
    |u, s| _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s)
);
