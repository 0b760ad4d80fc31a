//! A panel of sixteen unpacked rows times four tokens (layout in `panel.rs`): each 4-byte lane is a row's next four
//! weights, which meet four values of a token, so lanes add up to rows.
//!
//! With `sdot` by element, eight rows are taken at a time: 8 integer and 8 float accumulators, 8 vectors of
//! activations and the weights fit the 32 registers. Without it, four rows, whose integer sums take two vectors per
//! token (pairs of a row's products stay apart until the group ends).

use crate::kernels::activations::Row;
use crate::kernels::panel::{Panel, ROWS};
use crate::kernels::table::TOKENS;
use std::arch::aarch64::*;

/// Checks that four tokens are as long as the panel, which is what makes the kernels' loads sound.
fn check(p: &Panel, x: &[Row; TOKENS]) {
    let groups = p.d.len();
    let fits = |x: &Row| x.q.len() == p.q.len() * 4 && x.scales.len() * 32 == x.q.len();
    let group = p.group == 16 || p.group == 32;
    assert!(
        group && groups * p.group == p.q.len() * 4 && p.m.len() == groups && x.iter().all(fits),
        "tile sizes"
    );
}

#[target_feature(enable = "neon,dotprod")]
pub(super) fn dotprod(p: &Panel, x: &[Row; TOKENS], out: &mut [[f32; ROWS]; TOKENS]) {
    check(p, x);
    for half in 0..2 {
        if p.group == 16 {
            eight_rows::<16>(p, x, half, out);
        } else {
            eight_rows::<32>(p, x, half, out);
        }
    }
}

/// `acc += w · x[lane]` for four rows of four weights.
macro_rules! sdot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        std::arch::asm!(concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $acc, in(vreg) $w, in(vreg) $x, options(pure, nomem, nostack, preserves_flags))
    };
}

/// Rows `8 half .. 8 half + 8`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn eight_rows<const G: usize>(
    p: &Panel,
    x: &[Row; TOKENS],
    half: usize,
    out: &mut [[f32; ROWS]; TOKENS],
) {
    let mut acc = [[vdupq_n_f32(0.0); 2]; TOKENS];
    for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
        let mut sums = [[vdupq_n_s32(0); 2]; TOKENS];
        for k in (g * (G / 4)..(g + 1) * (G / 4)).step_by(4) {
            // SAFETY: `check`: 16 rows × 4 bytes and 4 values of each token for every `k`, of which a group has a
            // multiple of four; the enclosing function has the feature that the instruction needs.
            unsafe {
                let w = p.q.as_ptr().add(k).cast::<i8>().add(32 * half);
                let values: [int8x16_t; TOKENS] =
                    std::array::from_fn(|t| vld1q_s8(x[t].q.as_ptr().add(4 * k)));
                macro_rules! step {
                    ($lane:literal) => {
                        let (low, high) = (
                            vld1q_s8(w.add(64 * $lane)),
                            vld1q_s8(w.add(64 * $lane + 16)),
                        );
                        for t in 0..TOKENS {
                            sdot!(sums[t][0], low, values[t], $lane);
                            sdot!(sums[t][1], high, values[t], $lane);
                        }
                    };
                }
                step!(0);
                step!(1);
                step!(2);
                step!(3);
            }
        }
        for part in 0..2 {
            let first = 8 * half + 4 * part;
            // SAFETY: both are arrays of 16 floats.
            let (d, m) = unsafe {
                (
                    vld1q_f32(d.as_ptr().add(first)),
                    vld1q_f32(m.as_ptr().add(first)),
                )
            };
            for t in 0..TOKENS {
                let [scale, s] = x[t].scales[g * G / 32];
                acc[t][part] = vfmaq_f32(
                    acc[t][part],
                    vcvtq_f32_s32(sums[t][part]),
                    vmulq_n_f32(d, scale),
                );
                if p.has_min {
                    acc[t][part] = vfmaq_n_f32(acc[t][part], m, s);
                }
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats, of which this half's 8.
        unsafe {
            vst1q_f32(out.as_mut_ptr().add(8 * half), acc[0]);
            vst1q_f32(out.as_mut_ptr().add(8 * half + 4), acc[1]);
        }
    }
}

#[target_feature(enable = "neon")]
pub(super) fn neon(p: &Panel, x: &[Row; TOKENS], out: &mut [[f32; ROWS]; TOKENS]) {
    check(p, x);
    for quarter in 0..4 {
        if p.group == 16 {
            four_rows::<16>(p, x, quarter, out);
        } else {
            four_rows::<32>(p, x, quarter, out);
        }
    }
}

/// Rows `4 quarter .. 4 quarter + 4`.
#[inline]
#[target_feature(enable = "neon")]
fn four_rows<const G: usize>(
    p: &Panel,
    x: &[Row; TOKENS],
    quarter: usize,
    out: &mut [[f32; ROWS]; TOKENS],
) {
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
        let mut sums = [[vdupq_n_s32(0); 2]; TOKENS];
        for k in (g * (G / 4)..(g + 1) * (G / 4)).step_by(2) {
            // SAFETY: `check`: 16 rows × 4 bytes and 4 values of each token for every `k`, of which a group has an
            // even number.
            unsafe {
                let w = p.q.as_ptr().add(k).cast::<i8>().add(16 * quarter);
                let (a, b) = (vld1q_s8(w), vld1q_s8(w.add(64)));
                for t in 0..TOKENS {
                    let values = x[t].q.as_ptr().cast::<i32>().add(k);
                    let va = vreinterpretq_s8_s32(vdupq_n_s32(values.read_unaligned()));
                    let vb = vreinterpretq_s8_s32(vdupq_n_s32(values.add(1).read_unaligned()));
                    let low = vmull_s8(vget_low_s8(a), vget_low_s8(va));
                    let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(vb));
                    let high = vmlal_high_s8(vmull_high_s8(a, va), b, vb);
                    sums[t][0] = vpadalq_s16(sums[t][0], low);
                    sums[t][1] = vpadalq_s16(sums[t][1], high);
                }
            }
        }
        let first = 4 * quarter;
        // SAFETY: both are arrays of 16 floats.
        let (d, m) = unsafe {
            (
                vld1q_f32(d.as_ptr().add(first)),
                vld1q_f32(m.as_ptr().add(first)),
            )
        };
        for t in 0..TOKENS {
            let [scale, s] = x[t].scales[g * G / 32];
            let ints = vpaddq_s32(sums[t][0], sums[t][1]);
            acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(ints), vmulq_n_f32(d, scale));
            if p.has_min {
                acc[t] = vfmaq_n_f32(acc[t], m, s);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats, of which this quarter's 4.
        unsafe { vst1q_f32(out.as_mut_ptr().add(4 * quarter), acc) };
    }
}

/// Interleaves sixteen unpacked rows (see `scalar::interleave`): 4 × 4 transpositions of 4-byte units.
#[target_feature(enable = "neon")]
pub(super) fn interleave(rows: &[i8], bias: i8, out: &mut [[[i8; 4]; ROWS]]) {
    let cols = out.len() * 4;
    assert!(rows.len() == ROWS * cols, "interleave sizes");
    let bias = vdupq_n_s8(bias);
    let (vectors, rest) = out.as_chunks_mut::<4>();
    for (i, out) in vectors.iter_mut().enumerate() {
        for quarter in 0..4 {
            // SAFETY: row `4 quarter + r` has 16 integers at `16 i`, as there are 16 rows of `cols`.
            let row = |r: usize| unsafe {
                let row = vld1q_s8(rows.as_ptr().add((4 * quarter + r) * cols + 16 * i));
                vreinterpretq_s32_s8(vaddq_s8(row, bias))
            };
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let even = |a, b| vreinterpretq_s64_s32(vtrn1q_s32(a, b));
            let odd = |a, b| vreinterpretq_s64_s32(vtrn2q_s32(a, b));
            let units = [
                vtrn1q_s64(even(a, b), even(c, d)),
                vtrn1q_s64(odd(a, b), odd(c, d)),
                vtrn2q_s64(even(a, b), even(c, d)),
                vtrn2q_s64(odd(a, b), odd(c, d)),
            ];
            for (out, unit) in out.iter_mut().zip(units) {
                // SAFETY: `out` is 64 bytes, of which this quarter's 16.
                unsafe {
                    vst1q_s8(
                        out.as_mut_ptr().cast::<i8>().add(16 * quarter),
                        vreinterpretq_s8_s64(unit),
                    )
                };
            }
        }
    }
    assert!(rest.is_empty(), "formats have blocks of at least 32");
}
