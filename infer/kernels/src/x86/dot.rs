//! Products of 32 bytes with 32 bytes, four neighbours added to an i32 lane, by instruction set.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds to the lanes; AVX2 alone does the same in two steps
//! (`vpmaddubsw`, `vpmaddwd`), whose i16 intermediate must not saturate: it holds two products, so unsigned × signed
//! must stay below 2^14, which 4-bit weights (15 × 127) and magnitudes of int8 weights (128 × 127) do.

use std::arch::x86_64::*;

macro_rules! dot {
    ($name:ident, $features:literal, |$sum:ident, $u:ident, $s:ident| $dot:expr) => {
        pub(super) mod $name {
            use super::*;

            /// Unsigned times signed.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn dot($sum: __m256i, $u: __m256i, $s: __m256i) -> __m256i {
                $dot
            }

            /// Signed times signed: magnitudes times values that carry the other's sign. `x` never holds -128.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn dot_signed(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
                dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            }
        }
    };
}

dot!(avx2, "avx2", |sum, u, s| {
    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
    _mm256_add_epi32(sum, pairs)
});
dot!(vnni, "avx2,avxvnni", |sum, u, s| {
    _mm256_dpbusd_avx_epi32(sum, u, s)
});
dot!(avx512, "avx2,avx512vl,avx512vnni", |sum, u, s| {
    _mm256_dpbusd_epi32(sum, u, s)
});
