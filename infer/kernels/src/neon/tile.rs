//! A panel of sixteen unpacked rows times eight tokens (layouts in `panel.rs` and `Tokens`): each 4-byte lane is a
//! row's next four weights, which meet four values of a token, so lanes add up to rows.
//!
//! Four rows are taken at a time. With `sdot` by element that is one integer and one float sum per token, the weights
//! of eight columns in two vectors and the eight tokens' in four. Without it, the integer sums take two vectors per
//! token (pairs of a row's products stay apart until the group ends), so the tokens come in two halves.

use crate::activation_tiles::{TOKENS, Tokens};
use crate::panel::Panel;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::aarch64::*;

/// Checks that the tokens are as long as the panel, which is what makes the kernels' loads sound.
pub(super) fn check(p: &Panel, x: &Tokens) {
    let (groups, cols) = (p.d.len(), p.q.len() * 4);
    let group = p.group == 16 || p.group == 32;
    assert!(
        group
            && cols > 0
            && x.cols() == Some(cols)
            && groups * p.group == cols
            && p.m.len() == groups,
        "tile sizes"
    );
}

/// Adds the minima's part, `m · d Σx` per group, which only formats with groups of 32 have.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_minima(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
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
pub(super) fn dotprod(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    check(p, x);
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
    x: &Tokens,
    quarter: usize,
    out: &mut [[f32; ROWS]; TOKENS],
) {
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    for (g, d) in p.d.iter().enumerate() {
        let mut sums = [vdupq_n_s32(0); TOKENS];
        for k in g * (G / 8)..(g + 1) * (G / 8) {
            // SAFETY: `check`: for every eight columns, two units of 16 rows × 4 bytes and 64 bytes of tokens; the
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
pub(super) fn neon(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    check(p, x);
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
    x: &Tokens,
    quarter: usize,
    half: usize,
    out: &mut [[f32; ROWS]; TOKENS],
) {
    let mut acc = [vdupq_n_f32(0.0); 4];
    for (g, d) in p.d.iter().enumerate() {
        let mut sums = [[vdupq_n_s32(0); 2]; 4];
        for k in g * (G / 8)..(g + 1) * (G / 8) {
            // SAFETY: `check`: for every eight columns, two units of 16 rows × 4 bytes and 8 bytes of each token.
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

/// Unpacks sixteen rows from their panel (layout in `rows16.rs`) as `interleave` would.
#[target_feature(enable = "neon")]
pub(super) fn unpack_rows16<F: Format>(
    panel: &[u8],
    q: &mut [[[i8; 4]; ROWS]],
    d: &mut [[f32; ROWS]],
    m: &mut [[f32; ROWS]],
) {
    let (units, _) = q.as_chunks_mut::<8>();
    scales::<F>(panel, d, m);
    for (block, units) in panel.chunks_exact(F::BLOCK).zip(units) {
        for (u, unit) in units.iter_mut().enumerate() {
            for four in 0..4 {
                let q = weights::<F>(block, u, four);
                // SAFETY: a unit is 64 bytes, of which these four rows' 16.
                unsafe { vst1q_s8(unit.as_mut_ptr().cast::<i8>().add(16 * four), q) };
            }
        }
    }
}

/// A panel's scales, and minima if the format has any, in f32.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn scales<F: Format>(panel: &[u8], d: &mut [[f32; ROWS]], m: &mut [[f32; ROWS]]) {
    let widen = |halves: &[u8], to: &mut [f32; ROWS]| {
        let (halves, _) = halves.as_chunks::<8>();
        for (to, halves) in to.as_chunks_mut::<4>().0.iter_mut().zip(halves) {
            // SAFETY: four numbers each.
            unsafe {
                let halves = vreinterpret_f16_u8(vld1_u8(halves.as_ptr()));
                vst1q_f32(to.as_mut_ptr(), vcvt_f32_f16(halves));
            }
        }
    };
    for ((block, d), m) in panel.chunks_exact(F::BLOCK).zip(d).zip(m) {
        widen(&block[..2 * ROWS], d);
        if F::MIN {
            widen(&block[2 * ROWS..4 * ROWS], m);
        }
    }
}

/// Columns `4 u .. 4 u + 4` of a block's rows `4 four .. 4 four + 4`, without scale and minimum.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn weights<F: Format>(block: &[u8], u: usize, four: usize) -> int8x16_t {
    let units = if F::NIBBLES { 4 } else { 8 };
    let (bytes, _) = block[F::WEIGHTS..].as_chunks::<16>();
    // SAFETY: sixteen bytes.
    let bytes = unsafe { vld1q_u8(bytes[u % units * 4 + four].as_ptr()) };
    let q = vreinterpretq_s8_u8(match F::NIBBLES {
        true if u < 4 => vandq_u8(bytes, vdupq_n_u8(15)),
        true => vshrq_n_u8::<4>(bytes),
        false => bytes,
    });
    match F::TY {
        GgmlType::Q4_0 => vsubq_s8(q, vdupq_n_s8(8)),
        _ => q,
    }
}
