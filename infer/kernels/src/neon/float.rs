//! Float weights times f32 activations, and widening the half precision of the key-value cache.

use crate::scalar;
use crate::table::FLOAT_TOKENS;
use half::f16;
use retort_format::quant::GgmlType;
use std::arch::aarch64::*;

const F32: usize = 0;
const F16: usize = 1;
const BF16: usize = 2;

/// Four weights starting with weight `i`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load<const F: usize>(w: *const u8, i: usize) -> float32x4_t {
    // SAFETY: the caller has checked that four weights lie there; these loads need no alignment.
    unsafe {
        match F {
            F32 => vreinterpretq_f32_u8(vld1q_u8(w.add(4 * i))),
            F16 => vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(w.add(2 * i)))),
            _ => vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(
                w.add(2 * i),
            )))),
        }
    }
}

/// `T` tokens in `C` chains of sums each; the tail of less than `4 C` weights goes to the scalar kernel.
#[inline]
#[target_feature(enable = "neon")]
#[allow(clippy::needless_range_loop)] // `c` counts vectors, of the weights and of each token alike
fn dot<const F: usize, const T: usize, const C: usize>(
    ty: GgmlType,
    w: &[u8],
    x: &[&[f32]; T],
) -> [f32; T] {
    let size = if F == F32 { 4 } else { 2 };
    let n = w.len() / size;
    assert!(x.iter().all(|x| x.len() == n), "dot sizes");
    let whole = n - n % (4 * C);
    let mut sums = [[vdupq_n_f32(0.0); C]; T];
    for i in (0..whole).step_by(4 * C) {
        for c in 0..C {
            // SAFETY: `i + 4 C <= n`, and every `x` has `n` values.
            unsafe {
                let w = load::<F>(w.as_ptr(), i + 4 * c);
                for t in 0..T {
                    sums[t][c] = vfmaq_f32(sums[t][c], w, vld1q_f32(x[t].as_ptr().add(i + 4 * c)));
                }
            }
        }
    }
    let mut out = [0f32; T];
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = vaddvq_f32(
            sums.into_iter()
                .reduce(|a, b| vaddq_f32(a, b))
                .unwrap_or(vdupq_n_f32(0.0)),
        );
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
#[target_feature(enable = "neon")]
pub(super) fn dot_1(ty: GgmlType, w: &[u8], x: &[&[f32]; 1]) -> [f32; 1] {
    match ty {
        GgmlType::F16 => dot::<F16, 1, 4>(ty, w, x),
        GgmlType::BF16 => dot::<BF16, 1, 4>(ty, w, x),
        _ => dot::<F32, 1, 4>(ty, w, x),
    }
}

/// Four tokens.
#[target_feature(enable = "neon")]
pub(super) fn dot_4(ty: GgmlType, w: &[u8], x: &[&[f32]; FLOAT_TOKENS]) -> [f32; FLOAT_TOKENS] {
    match ty {
        GgmlType::F16 => dot::<F16, FLOAT_TOKENS, 2>(ty, w, x),
        GgmlType::BF16 => dot::<BF16, FLOAT_TOKENS, 2>(ty, w, x),
        _ => dot::<F32, FLOAT_TOKENS, 2>(ty, w, x),
    }
}

/// Widens half precision, sixteen numbers at a time; the half crate calls a function for four.
#[target_feature(enable = "neon")]
pub(super) fn from_f16(x: &[f16], out: &mut [f32]) {
    let n = x.len().min(out.len());
    let (x, x_rest) = x[..n].as_chunks::<16>();
    let (out, out_rest) = out[..n].as_chunks_mut::<16>();
    for (out, x) in out.iter_mut().zip(x) {
        for i in (0..16).step_by(4) {
            // SAFETY: both are references to sixteen numbers.
            unsafe { vst1q_f32(out.as_mut_ptr().add(i), load::<F16>(x.as_ptr().cast(), i)) };
        }
    }
    for (out, x) in out_rest.iter_mut().zip(x_rest) {
        *out = x.to_f32();
    }
}
