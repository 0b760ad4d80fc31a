//! A panel of sixteen unpacked rows times eight tokens (layouts in `panel.rs` and `activation_tiles.rs`): each 4-byte
//! lane is a row's next four weights, which meet four values of a token, so lanes add up to rows.
//!
//! Four rows are taken at a time. With `sdot` by element that is one integer and one float sum per token, the weights
//! of eight columns in two vectors and the eight tokens' in four. Without it, the integer sums take two vectors per
//! token (pairs of a row's products stay apart until the group ends), so the tokens come in two halves.

use crate::activation_tiles::{TOKENS, TileOutput, TokenTile};
use crate::panel::Panel;
use std::arch::aarch64::*;

/// Adds the minima's part, `m · d Σx` per group, which only formats with groups of 32 have.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_minima(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    for (half, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut acc = [[vdupq_n_f32(0.0); 4]; 4];
        for ((m, d), [low, high, _]) in p.m.iter().zip(x.d).zip(x.sums) {
            // SAFETY: arrays of 16 and 8 numbers.
            let (m, s) = unsafe {
                let m: [float32x4_t; 4] = std::array::from_fn(|r| vld1q_f32(m.as_ptr().add(4 * r)));
                let at = 4 * half;
                let sum = vaddq_s32(
                    vld1q_s32(low.as_ptr().add(at)),
                    vld1q_s32(high.as_ptr().add(at)),
                );
                (
                    m,
                    vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(d.as_ptr().add(at))),
                )
            };
            for r in 0..4 {
                acc[0][r] = vfmaq_laneq_f32::<0>(acc[0][r], m[r], s);
                acc[1][r] = vfmaq_laneq_f32::<1>(acc[1][r], m[r], s);
                acc[2][r] = vfmaq_laneq_f32::<2>(acc[2][r], m[r], s);
                acc[3][r] = vfmaq_laneq_f32::<3>(acc[3][r], m[r], s);
            }
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            for (out, acc) in out.as_chunks_mut::<4>().0.iter_mut().zip(acc) {
                // SAFETY: four floats.
                unsafe { vst1q_f32(out.as_mut_ptr(), vaddq_f32(vld1q_f32(out.as_ptr()), acc)) };
            }
        }
    }
}

/// With `sdot`.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dotprod(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    p.check(x);
    for quarter in 0..4 {
        if p.group == 16 {
            four_rows_dotprod::<16>(p, x, quarter, out);
        } else {
            four_rows_dotprod::<32>(p, x, quarter, out);
        }
    }
    if p.has_min {
        add_minima(p, x, out);
    }
}

/// `acc += w · x[lane]` for four rows of four weights.
macro_rules! sdot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        std::arch::asm!(concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $acc, in(vreg) $w, in(vreg) $x, options(pure, nomem, nostack, preserves_flags))
    };
}

/// Rows `4 quarter .. 4 quarter + 4`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn four_rows_dotprod<const G: usize>(
    p: &Panel,
    x: &TokenTile,
    quarter: usize,
    out: &mut TileOutput,
) {
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    for (g, d) in p.d.iter().enumerate() {
        let mut sums = [vdupq_n_s32(0); TOKENS];
        for k in g * (G / 8)..(g + 1) * (G / 8) {
            // SAFETY: `Panel::check`: for every eight columns, two units of 16 rows × 4 bytes and 64 bytes of tokens; the
            // enclosing function has the feature that the instruction needs.
            unsafe {
                let w = p.q.as_ptr().add(2 * k).cast::<i8>().add(16 * quarter);
                let (first, second) = (vld1q_s8(w), vld1q_s8(w.add(64)));
                let values = x.q.as_ptr().add(k).cast::<i8>();
                for pair in 0..TOKENS / 2 {
                    let values = vld1q_s8(values.add(16 * pair));
                    sdot!(sums[2 * pair], first, values, "0");
                    sdot!(sums[2 * pair + 1], first, values, "2");
                    sdot!(sums[2 * pair], second, values, "1");
                    sdot!(sums[2 * pair + 1], second, values, "3");
                }
            }
        }
        // SAFETY: arrays of 16 and 8 floats.
        let (d, low, high) = unsafe {
            let scales = x.d[g * G / 32].as_ptr();
            (
                vld1q_f32(d.as_ptr().add(4 * quarter)),
                vld1q_f32(scales),
                vld1q_f32(scales.add(4)),
            )
        };
        macro_rules! scale {
            ($t:literal, $scales:expr, $lane:literal) => {
                acc[$t] = vfmaq_f32(
                    acc[$t],
                    vcvtq_f32_s32(sums[$t]),
                    vmulq_laneq_f32::<$lane>(d, $scales),
                );
            };
        }
        scale!(0, low, 0);
        scale!(1, low, 1);
        scale!(2, low, 2);
        scale!(3, low, 3);
        scale!(4, high, 0);
        scale!(5, high, 1);
        scale!(6, high, 2);
        scale!(7, high, 3);
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats, of which this quarter's 4.
        unsafe { vst1q_f32(out.as_mut_ptr().add(4 * quarter), acc) };
    }
}

/// Without the dot product instructions.
#[target_feature(enable = "neon")]
pub(super) fn neon(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    p.check(x);
    for quarter in 0..4 {
        for half in 0..2 {
            if p.group == 16 {
                four_rows::<16>(p, x, quarter, half, out);
            } else {
                four_rows::<32>(p, x, quarter, half, out);
            }
        }
    }
    if p.has_min {
        add_minima(p, x, out);
    }
}

/// Rows `4 quarter .. 4 quarter + 4`, tokens `4 half .. 4 half + 4`.
#[inline]
#[target_feature(enable = "neon")]
fn four_rows<const G: usize>(
    p: &Panel,
    x: &TokenTile,
    quarter: usize,
    half: usize,
    out: &mut TileOutput,
) {
    let mut acc = [vdupq_n_f32(0.0); 4];
    for (g, d) in p.d.iter().enumerate() {
        let mut sums = [[vdupq_n_s32(0); 2]; 4];
        for k in g * (G / 8)..(g + 1) * (G / 8) {
            // SAFETY: `Panel::check`: for every eight columns, two units of 16 rows × 4 bytes and 8 bytes of each token.
            unsafe {
                let w = p.q.as_ptr().add(2 * k).cast::<i8>().add(16 * quarter);
                let (a, b) = (vld1q_s8(w), vld1q_s8(w.add(64)));
                for (t, [first, second]) in sums.iter_mut().enumerate() {
                    let values = x.q[k][4 * half + t].as_ptr().cast::<i32>();
                    let va = vreinterpretq_s8_s32(vld1q_dup_s32(values));
                    let vb = vreinterpretq_s8_s32(vld1q_dup_s32(values.add(1)));
                    let low = vmull_s8(vget_low_s8(a), vget_low_s8(va));
                    let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(vb));
                    let high = vmlal_high_s8(vmull_high_s8(a, va), b, vb);
                    *first = vpadalq_s16(*first, low);
                    *second = vpadalq_s16(*second, high);
                }
            }
        }
        // SAFETY: an array of 16 floats.
        let d = unsafe { vld1q_f32(d.as_ptr().add(4 * quarter)) };
        for (t, [first, second]) in sums.into_iter().enumerate() {
            let ints = vcvtq_f32_s32(vpaddq_s32(first, second));
            let scale = vmulq_n_f32(d, x.d[g * G / 32][4 * half + t]);
            acc[t] = vfmaq_f32(acc[t], ints, scale);
        }
    }
    for (out, acc) in out[4 * half..].iter_mut().zip(acc) {
        // SAFETY: 16 floats, of which this quarter's 4.
        unsafe { vst1q_f32(out.as_mut_ptr().add(4 * quarter), acc) };
    }
}
