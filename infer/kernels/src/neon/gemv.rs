//! One token times rows in the file's layout, four rows at a time.
//!
//! Per block of 32 weights each row gives an i32x4 of partial sums; pairwise additions turn the four rows' vectors
//! into one with a lane per row, so the conversion to float and the multiply-add are shared by four rows and no
//! horizontal sums are left at the end. Four short rows side by side are no straight line for a hardware prefetcher,
//! so each step asks for its share of the next four rows, which lie in one piece. Q4_0's nibbles become `16 (q - 8)` by
//! flipping bit 3 and keeping them in the upper half of a byte; the factor 16 goes in the conversion. Q5_0's become
//! `q - 16` by filling the upper half where the fifth bit is not set.

use super::dot;
use crate::formats::{RowFormat, row_bytes};
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use std::arch::aarch64::*;

/// Sixteen nibbles with the fifth bits at `p`: with a `gap`, those of nibbles whose fifth bit is not set are
/// 16 less, else those of the others 16 more.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn with_fifth_bits(nibbles: uint8x16_t, p: *const u8, gap: bool) -> uint8x16_t {
    const PLACES: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the caller has two bytes at `p`; eight bytes.
    let set = unsafe {
        let bits = vcombine_u8(vdup_n_u8(*p), vdup_n_u8(*p.add(1)));
        let places = vld1_u8(PLACES.as_ptr());
        vtstq_u8(bits, vcombine_u8(places, places))
    };
    let upper = if gap {
        vbicq_u8(vdupq_n_u8(0xf0), set)
    } else {
        vandq_u8(vdupq_n_u8(16), set)
    };
    vorrq_u8(nibbles, upper)
}

/// The weights of a block, the first sixteen and the others; of Q4_0 16 times as large.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weights<F: RowFormat>(p: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's block has `F::BYTES` bytes.
    let (a, b) = unsafe {
        match F::TY {
            GgmlType::Q4_0 => {
                let bytes = veorq_u8(vld1q_u8(p.add(2)), vdupq_n_u8(0x88));
                (vshlq_n_u8::<4>(bytes), vandq_u8(bytes, vdupq_n_u8(0xf0)))
            }
            GgmlType::Q4_1 => {
                let bytes = vld1q_u8(p.add(4));
                (vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes))
            }
            GgmlType::Q5_0 | GgmlType::Q5_1 => {
                let gap = F::TY == GgmlType::Q5_0;
                let at = F::BYTES - 16;
                let (bytes, bits) = (vld1q_u8(p.add(at)), p.add(at - 4));
                let low = vandq_u8(bytes, vdupq_n_u8(15));
                let high = vshrq_n_u8::<4>(bytes);
                (
                    with_fifth_bits(low, bits, gap),
                    with_fifth_bits(high, bits.add(2), gap),
                )
            }
            _ => (vld1q_u8(p.add(2)), vld1q_u8(p.add(18))),
        }
    };
    [a, b].map(|bytes| vreinterpretq_s8_u8(bytes))
}

/// The half-precision numbers at `at` of four blocks.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen_f16(w: [*const u8; 4], at: usize) -> float32x4_t {
    // SAFETY: the caller's blocks have two bytes at `at`.
    let half = |r: usize| unsafe { w[r].add(at).cast::<u16>().read_unaligned() };
    let bits = [half(0), half(1), half(2), half(3)];
    // SAFETY: four numbers.
    vcvt_f32_f16(vreinterpret_f16_u16(unsafe { vld1_u16(bits.as_ptr()) }))
}

/// Asks for the cache line at `p`, which may be anywhere.
#[inline]
#[target_feature(enable = "neon")]
fn prefetch(p: *const u8) {
    // SAFETY: a prefetch never faults and changes nothing that a program can see.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }
}

macro_rules! kernels {
    ($name:ident, $features:literal) => {
        pub(super) mod $name {
            use super::dot::$name as dot;
            use super::*;

            /// The partial sums of one block.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn block<F: RowFormat>(
                p: *const u8,
                low: int8x16_t,
                high: int8x16_t,
            ) -> int32x4_t {
                // SAFETY: the caller has a whole block here.
                let [a, b] = unsafe { weights::<F>(p) };
                dot(dot(vdupq_n_s32(0), a, low), b, high)
            }

            /// Four rows, wherever they lie.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn rows<F: RowFormat>(
                mut w: [*const u8; 4],
                x: Int8Row,
                mut next: *const u8,
            ) -> [f32; 4] {
                let (mut sums, mut mins) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
                let mut q = x.q.as_ptr();
                for &[scale, s] in x.scales {
                    // SAFETY: the rows have as many blocks as `x` has scales, and `x` 32 values for each (see `gemv`).
                    unsafe {
                        let (low, high) = (vld1q_s8(q), vld1q_s8(q.add(16)));
                        let a =
                            vpaddq_s32(block::<F>(w[0], low, high), block::<F>(w[1], low, high));
                        let b =
                            vpaddq_s32(block::<F>(w[2], low, high), block::<F>(w[3], low, high));
                        let ints = vpaddq_s32(a, b);
                        let ints = if F::TY == GgmlType::Q4_0 {
                            vcvtq_n_f32_s32::<4>(ints)
                        } else {
                            vcvtq_f32_s32(ints)
                        };
                        sums = vfmaq_f32(sums, ints, vmulq_n_f32(widen_f16(w, 0), scale));
                        if F::MIN {
                            mins = vfmaq_n_f32(mins, widen_f16(w, 2), s);
                        }
                        w = w.map(|w| w.add(F::BYTES));
                        q = q.add(32);
                        for line in (0..4 * F::BYTES).step_by(64) {
                            prefetch(next.wrapping_add(line));
                        }
                        next = next.wrapping_add(4 * F::BYTES);
                    }
                }
                let mut out = [0f32; 4];
                // SAFETY: four floats.
                unsafe { vst1q_f32(out.as_mut_ptr(), vaddq_f32(sums, mins)) };
                out
            }

            /// `y[r] = Σ w[r] x`.
            #[target_feature(enable = $features)]
            pub fn gemv<F: RowFormat>(w: &[u8], x: Int8Row, y: &mut [f32]) {
                let bytes = row_bytes::<F>(w, &x, y);
                for (i, y) in y.chunks_mut(4).enumerate() {
                    // fewer than four rows are filled up with the last one
                    let row = |r: usize| w[(4 * i + r.min(y.len() - 1)) * bytes..].as_ptr();
                    let next = row(0).wrapping_add(4 * bytes);
                    // SAFETY: `row_bytes`: each row has a block for every scale, and there are 32 values per scale.
                    let out = unsafe { rows::<F>([row(0), row(1), row(2), row(3)], x, next) };
                    y.copy_from_slice(&out[..y.len()]);
                }
            }
        }
    };
}

kernels!(neon, "neon");
kernels!(dotprod, "neon,dotprod");
