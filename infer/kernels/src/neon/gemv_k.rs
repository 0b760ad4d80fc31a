//! One token times rows of the K formats as they lie in a file (layouts in `quant/k.rs`), one row after another.
//!
//! A block of 256 weights meets eight blocks of activations. The products of 32 weights (Q6_K: 16) add to an i32x4; what
//! that is multiplied with comes from the block's scale, its groups' integer scales and the activations' scales, four at
//! a time. Minima meet the activations' sums likewise.

use super::dot;
use crate::formats::{RowFormat, row_by_row};
use crate::int8::{Int8Row, Scale};
use retort_format::quant::GgmlType;
use retort_format::quant::k::scales_mins;
use std::arch::aarch64::*;

/// Weights `32 g + 16 part ..` of a block, sixteen of them, without scale and minimum.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weights<F: RowFormat>(p: *const u8, g: usize, part: usize) -> int8x16_t {
    // SAFETY: the caller has a whole block of `F::BYTES` bytes at `p`, and all places below lie in it.
    let load = |at: usize| unsafe { vld1q_u8(p.add(at + 16 * part)) };
    let nibbles = |at: usize, upper: bool| match upper {
        true => vshrq_n_u8::<4>(load(at)),
        false => vandq_u8(load(at), vdupq_n_u8(15)),
    };
    // bits moved up by n places, or down
    let moved =
        |at: usize, n: i8, mask: u8| vandq_u8(vshlq_u8(load(at), vdupq_n_s8(n)), vdupq_n_u8(mask));
    let q = match F::TY {
        GgmlType::Q4_K => nibbles(16 + g / 2 * 32, g % 2 == 1),
        GgmlType::Q5_K => vorrq_u8(
            nibbles(48 + g / 2 * 32, g % 2 == 1),
            moved(16, 4 - g as i8, 16),
        ),
        _ => {
            let (half, quarter) = (g / 4, g % 4);
            let pair = moved(128 + 32 * half, 4 - 2 * quarter as i8, 48);
            let low = nibbles(64 * half + quarter % 2 * 32, quarter >= 2);
            vsubq_u8(vorrq_u8(low, pair), vdupq_n_u8(32))
        }
    };
    vreinterpretq_s8_u8(q)
}

/// Eight integers as floats.
#[inline]
#[target_feature(enable = "neon")]
fn floats(integers: int16x8_t) -> [float32x4_t; 2] {
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(integers))),
        vcvtq_f32_s32(vmovl_high_s16(integers)),
    ]
}

/// Eight bytes, all below 128, as floats.
#[inline]
#[target_feature(enable = "neon")]
fn small(bytes: [u8; 8]) -> [float32x4_t; 2] {
    // SAFETY: eight bytes.
    floats(vmovl_s8(unsafe { vld1_s8(bytes.as_ptr().cast()) }))
}

/// A number in half precision.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen_f16(p: *const u8) -> f32 {
    // SAFETY: the caller has two bytes at `p`.
    let bits = vdup_n_u16(unsafe { p.cast::<u16>().read_unaligned() });
    vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(bits)))
}

/// Factors of the integer sums of a block's eight groups (Q6_K: sixteen): the block's scale times the group's times
/// the activations'. Subtracts the minima's part from `mins`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn factors<F: RowFormat>(p: *const u8, x: &[Scale; 8], mins: &mut float32x4_t) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: the caller has a whole block at `p`; sixteen floats of `x`, and room for sixteen.
    unsafe {
        let to = out.as_mut_ptr();
        let x = [0, 8].map(|i| vld2q_f32(x.as_ptr().cast::<f32>().add(i)));
        if F::TY == GgmlType::Q6_K {
            let d = widen_f16(p.add(208));
            let groups = vld1q_s8(p.add(192).cast());
            let groups = [vmovl_s8(vget_low_s8(groups)), vmovl_high_s8(groups)];
            for (i, (groups, float32x4x2_t(scales, _))) in groups.into_iter().zip(x).enumerate() {
                let [a, b] = floats(groups).map(|groups| vmulq_n_f32(groups, d));
                vst1q_f32(to.add(8 * i), vmulq_f32(a, vzip1q_f32(scales, scales)));
                vst1q_f32(to.add(8 * i + 4), vmulq_f32(b, vzip2q_f32(scales, scales)));
            }
        } else {
            let (d, m) = (widen_f16(p), widen_f16(p.add(2)));
            let [groups, minima] = scales_mins(&*p.add(4).cast()).map(|bytes| small(bytes));
            for (i, float32x4x2_t(scales, sums)) in x.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), vmulq_f32(vmulq_n_f32(groups[i], d), scales));
                *mins = vfmsq_f32(*mins, vmulq_n_f32(minima[i], m), sums);
            }
        }
    }
    out
}

macro_rules! kernels {
    ($name:ident, $features:literal) => {
        pub(super) mod $name {
            use super::dot::$name as dot;
            use super::*;

            /// Adds group `G` of the block at `p`, times the values at `q`. Its number is constant, since what is
            /// shifted by depends on it, and LLVM leaves a loop over groups of Q6_K as it is.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn group<F: RowFormat, const G: usize>(
                sums: float32x4_t,
                p: *const u8,
                q: *const i8,
                factors: &[f32; 16],
            ) -> float32x4_t {
                // SAFETY: the caller has a whole block, and 256 values.
                let (weights, values) = unsafe {
                    (
                        [weights::<F>(p, G, 0), weights::<F>(p, G, 1)],
                        [vld1q_s8(q.add(32 * G)), vld1q_s8(q.add(32 * G + 16))],
                    )
                };
                let zero = vdupq_n_s32(0);
                let first = dot(zero, weights[0], values[0]);
                if F::TY == GgmlType::Q6_K {
                    let second = dot(zero, weights[1], values[1]);
                    let sums = vfmaq_n_f32(sums, vcvtq_f32_s32(first), factors[2 * G]);
                    return vfmaq_n_f32(sums, vcvtq_f32_s32(second), factors[2 * G + 1]);
                }
                let both = dot(first, weights[1], values[1]);
                vfmaq_n_f32(sums, vcvtq_f32_s32(both), factors[G])
            }

            /// One row.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row<F: RowFormat>(mut w: *const u8, x: Int8Row) -> f32 {
                let (mut sums, mut mins) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
                let mut q = x.q.as_ptr();
                for scales in x.scales.as_chunks::<8>().0 {
                    // SAFETY: the row has a block for every eight scales of `x`, which has 32 values for each.
                    unsafe {
                        let factors = factors::<F>(w, scales, &mut mins);
                        sums = group::<F, 0>(sums, w, q, &factors);
                        sums = group::<F, 1>(sums, w, q, &factors);
                        sums = group::<F, 2>(sums, w, q, &factors);
                        sums = group::<F, 3>(sums, w, q, &factors);
                        sums = group::<F, 4>(sums, w, q, &factors);
                        sums = group::<F, 5>(sums, w, q, &factors);
                        sums = group::<F, 6>(sums, w, q, &factors);
                        sums = group::<F, 7>(sums, w, q, &factors);
                        w = w.add(F::BYTES);
                        q = q.add(256);
                    }
                }
                vaddvq_f32(vaddq_f32(sums, mins))
            }

            row_by_row!($features);
        }
    };
}

kernels!(neon, "neon");
kernels!(dotprod, "neon,dotprod");
