//! Sixteen rows in the order that the tile kernels want: interleaved from rows one after another, or unpacked from
//! panels of sixteen (layout in [`rows16`](retort_format::quant::rows16)).
//!
//! In units of four columns for `tile.rs`, `[cols / 4][16 rows][4]`; in pairs of units for `smmla.rs`,
//! `[cols / 8][16 rows][8]`.

use crate::panel::{Panel, Unit};
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::aarch64::*;

/// Interleaves rows `[16, cols]` in units: 4 × 4 transpositions of 4 bytes.
#[target_feature(enable = "neon")]
pub(super) fn interleave_units(rows: &[i8], bias: i8, out: &mut [Unit]) {
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
                    let to = out.as_mut_ptr().cast::<i8>().add(16 * quarter);
                    vst1q_s8(to, vreinterpretq_s8_s64(unit));
                }
            }
        }
    }
    assert!(rest.is_empty(), "formats have blocks of at least 32");
}

/// Interleaves rows `[16, cols]` in pairs of units.
#[target_feature(enable = "neon")]
pub(super) fn interleave_pairs(rows: &[i8], bias: i8, out: &mut [Unit]) {
    let cols = out.len() * 4;
    assert!(
        rows.len() == ROWS * cols && cols.is_multiple_of(16),
        "interleave sizes"
    );
    let bias = vdupq_n_s8(bias);
    for (r, row) in rows.chunks_exact(cols.max(1)).enumerate() {
        for (i, q) in row.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: sixteen integers; `out` has 128 bytes for eight columns, of which 8 are this row's.
            unsafe {
                let q = vaddq_s8(vld1q_s8(q.as_ptr()), bias);
                let to = out.as_mut_ptr().cast::<i8>().add(256 * i + 8 * r);
                vst1_s8(to, vget_low_s8(q));
                vst1_s8(to.add(128), vget_high_s8(q));
            }
        }
    }
}

/// Unpacks a panel of `F` in units.
#[target_feature(enable = "neon")]
pub(super) fn units<F: Format>(panel: &[u8], to: &mut Panel) {
    unpack::<F, false>(panel, to);
}

/// Unpacks a panel of `F` in pairs of units.
#[target_feature(enable = "neon")]
pub(super) fn pairs<F: Format>(panel: &[u8], to: &mut Panel) {
    unpack::<F, true>(panel, to);
}

#[inline]
#[target_feature(enable = "neon")]
fn unpack<F: Format, const PAIRS: bool>(panel: &[u8], to: &mut Panel) {
    scales::<F>(panel, &mut to.d, &mut to.m);
    let units = to.q.as_chunks_mut::<8>().0;
    for (block, units) in panel.chunks_exact(F::BLOCK).zip(units) {
        for (k, pair) in units.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            for four in 0..4 {
                let a = vreinterpretq_s32_s8(weights::<F>(block, 2 * k, four));
                let b = vreinterpretq_s32_s8(weights::<F>(block, 2 * k + 1, four));
                // SAFETY: 128 bytes, of which these four rows' 32.
                unsafe {
                    let to = pair.as_mut_ptr().cast::<i32>();
                    if PAIRS {
                        vst1q_s32(to.add(8 * four), vzip1q_s32(a, b));
                        vst1q_s32(to.add(8 * four + 4), vzip2q_s32(a, b));
                    } else {
                        vst1q_s32(to.add(4 * four), a);
                        vst1q_s32(to.add(16 + 4 * four), b);
                    }
                }
            }
        }
    }
}

/// A panel's scales, and minima if the format has any, in f32.
#[inline]
#[target_feature(enable = "neon")]
fn scales<F: Format>(panel: &[u8], d: &mut [[f32; ROWS]], m: &mut [[f32; ROWS]]) {
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
fn weights<F: Format>(block: &[u8], u: usize, four: usize) -> int8x16_t {
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
