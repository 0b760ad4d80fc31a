//! Float weights times f32 activations, and widening of half precision, in NEON.

use crate::float_dot::float_kernels;
use crate::kernels::FLOAT_TOKENS;
use crate::scalar;
use half::f16;
use retort_format::quant::GgmlType;
use std::arch::aarch64::*;

/// Four weights starting with weight `i`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load<const F: usize>(w: *const u8, i: usize) -> float32x4_t {
    // SAFETY: the caller has checked that four weights lie there; these loads need no alignment.
    unsafe {
        match F {
            F32 => vreinterpretq_f32_u8(vld1q_u8(w.add(4 * i))),
            F16 => vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(w.add(2 * i)))),
            _ => {
                let bits = vreinterpret_u16_u8(vld1_u8(w.add(2 * i)));
                vreinterpretq_f32_u32(vshll_n_u16::<16>(bits))
            }
        }
    }
}

float_kernels!(
    "neon", float32x4_t, 4, zero: vdupq_n_f32(0.0), load: vld1q_f32, store: vst1q_f32,
    add: vaddq_f32, sum: vaddvq_f32, |acc, w, x| vfmaq_f32(acc, w, x)
);
