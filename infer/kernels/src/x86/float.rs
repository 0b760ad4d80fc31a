//! Float weights times f32 activations, and widening the half precision of the key-value cache.

use super::sum;
use crate::scalar;
use crate::table::FLOAT_TOKENS;
use half::f16;
use retort_format::quant::GgmlType;
use std::arch::x86_64::*;

const F32: usize = 0;
const F16: usize = 1;
const BF16: usize = 2;

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

/// `T` tokens in `C` chains of sums each; the tail of less than `8 C` weights goes to the scalar kernel.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // `c` counts vectors, of the weights and of each token alike
fn dot<const F: usize, const T: usize, const C: usize>(
    ty: GgmlType,
    w: &[u8],
    x: &[&[f32]; T],
) -> [f32; T] {
    let size = if F == F32 { 4 } else { 2 };
    let n = w.len() / size;
    assert!(x.iter().all(|x| x.len() == n), "dot sizes");
    let whole = n - n % (8 * C);
    let mut sums = [[_mm256_setzero_ps(); C]; T];
    for i in (0..whole).step_by(8 * C) {
        for c in 0..C {
            // SAFETY: `i + 8 C <= n`, and every `x` has `n` values.
            unsafe {
                let w = load::<F>(w.as_ptr(), i + 8 * c);
                for t in 0..T {
                    sums[t][c] = _mm256_fmadd_ps(
                        w,
                        _mm256_loadu_ps(x[t].as_ptr().add(i + 8 * c)),
                        sums[t][c],
                    );
                }
            }
        }
    }
    let mut out = [0f32; T];
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sum(sums
            .into_iter()
            .reduce(|a, b| _mm256_add_ps(a, b))
            .unwrap_or(_mm256_setzero_ps()));
    }
    if whole < n {
        let rest = scalar::float_dot(ty, &w[whole * size..], &x.map(|x| &x[whole..]));
        for (out, rest) in out.iter_mut().zip(rest) {
            *out += rest;
        }
    }
    out
}

/// One token.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_1(ty: GgmlType, w: &[u8], x: &[&[f32]; 1]) -> [f32; 1] {
    match ty {
        GgmlType::F16 => dot::<F16, 1, 4>(ty, w, x),
        GgmlType::BF16 => dot::<BF16, 1, 4>(ty, w, x),
        _ => dot::<F32, 1, 4>(ty, w, x),
    }
}

/// Four tokens.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_4(ty: GgmlType, w: &[u8], x: &[&[f32]; FLOAT_TOKENS]) -> [f32; FLOAT_TOKENS] {
    match ty {
        GgmlType::F16 => dot::<F16, FLOAT_TOKENS, 2>(ty, w, x),
        GgmlType::BF16 => dot::<BF16, FLOAT_TOKENS, 2>(ty, w, x),
        _ => dot::<F32, FLOAT_TOKENS, 2>(ty, w, x),
    }
}

/// Widens from half precision.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn from_f16(x: &[f16], out: &mut [f32]) {
    let n = x.len().min(out.len());
    let (x, x_rest) = x[..n].as_chunks::<8>();
    let (out, out_rest) = out[..n].as_chunks_mut::<8>();
    for (out, x) in out.iter_mut().zip(x) {
        // SAFETY: both are references to eight numbers.
        unsafe {
            let halves = _mm_loadu_si128(x.as_ptr().cast());
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    for (out, x) in out_rest.iter_mut().zip(x_rest) {
        *out = x.to_f32();
    }
}
