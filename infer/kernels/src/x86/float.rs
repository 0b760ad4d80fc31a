//! Float weights times f32 activations, and widening of half precision, in vectors of 256 bits.

use super::vector::sum;
use crate::float_dot::float_kernels;
use crate::kernels::FLOAT_TOKENS;
use crate::scalar;
use half::f16;
use retort_format::quant::GgmlType;
use std::arch::x86_64::*;

/// Eight weights starting with weight `i`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load<const F: usize>(w: *const u8, i: usize) -> __m256 {
    // SAFETY: the caller has checked that eight weights lie there.
    unsafe {
        match F {
            F32 => _mm256_loadu_ps(w.add(4 * i).cast()),
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(w.add(2 * i).cast())),
            _ => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(w.add(2 * i).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
    }
}

float_kernels!(
    "avx2,fma,f16c", __m256, 8, zero: _mm256_setzero_ps(), load: _mm256_loadu_ps, store: _mm256_storeu_ps,
    add: _mm256_add_ps, sum: sum, |acc, w, x| _mm256_fmadd_ps(w, x, acc)
);
