//! Better rounding to Q4_0, Q4_1 and Q8_0: per block of 32, the scale (and minimum) with the least weighted squared
//! error, instead of the one that covers the largest weight.
//!
//! ```text
//! in   x [cols] weights, importance [cols] (the mean square of what each is multiplied with; all ones if unknown)
//! out  blocks that minimise  Σ importance (x - decoded)²  over the candidates
//! ```
//!
//! A candidate scale is taken to the integers it rounds to, then to the scale that is best for those integers (least
//! squares), which is rounded to f16 as it is stored, and the integers are taken anew. ggml's plain rounding is the
//! first candidate, so that no block becomes worse by it. The idea is ggml's own (`make_qx_quants`); the errors here are
//! those of what the engine decodes. Without importance it brings the weights nearer, and a model's
//! perplexity but not its divergence: it is an option then, and part of calibration.

use super::ggml_type::GgmlType;
use super::half_float::half_to_f32;
use super::{q4, q8, quantize_row, round, unpack_block};
use crate::error::Result;
use half::f16;

pub use super::round::BLOCK;

/// Encodes a row as [`quantize_row`] does, but Q4_0, Q4_1 and Q8_0 blocks with the scale that loses least under
/// `importance`, `[cols]`.
///
/// # Errors
///
/// As [`quantize_row`].
///
/// # Panics
///
/// If there are fewer importances than weights.
pub fn quantize_row_searched(
    ty: GgmlType,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    quantize_row(ty, x, out)?;
    if !is_searched(ty) {
        return Ok(());
    }
    let size = ty.bytes_per_block();
    for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        let w = match importance {
            Some(all) => std::array::from_fn(|i| all[block * BLOCK + i]),
            None => [1.0; BLOCK],
        };
        let at = start + block * size;
        let plain = &mut out[at..at + size];
        let least = error(ty, plain, x, &w);
        if least > 0.0
            && let Some(better) = search(ty, x, &w, least)
        {
            plain.copy_from_slice(&better);
        }
    }
    Ok(())
}

/// Whether there is anything to search in `ty`.
pub fn is_searched(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q8_0)
}

/// `Σ w (x - decoded)²`.
pub fn error(ty: GgmlType, block: &[u8], x: &[f32; BLOCK], w: &[f32; BLOCK]) -> f64 {
    let (mut q, mut d, mut m) = ([0; BLOCK], [0.0], [0.0]);
    unpack_block(ty, block, &mut q, &mut d, &mut m);
    squares(x, w, |i| d[0] * f32::from(q[i]) + m[0])
}

fn squares(x: &[f32; BLOCK], w: &[f32; BLOCK], decoded: impl Fn(usize) -> f32) -> f64 {
    let mut lanes = [0f64; 8];
    for i in 0..BLOCK {
        let difference = f64::from(x[i] - decoded(i));
        lanes[i % 8] += f64::from(w[i]) * difference * difference;
    }
    lanes.iter().sum()
}

/// A block with an error below `least`, if a candidate has one.
fn search(ty: GgmlType, x: &[f32; BLOCK], w: &[f32; BLOCK], mut least: f64) -> Option<Vec<u8>> {
    let mut best = None;
    let (low, high) = range(ty);
    for (d, m) in candidates(ty, x, w) {
        let q = levels(x, d, m, low, high);
        let error = squares(x, w, |i| d * q[i] + m);
        if error < least {
            (least, best) = (error, Some((d, m, q)));
        }
    }
    best.map(|(d, m, q)| encode(ty, d, m, &q))
}

/// The least and the largest integer of a format.
pub fn range(ty: GgmlType) -> (f32, f32) {
    match ty {
        GgmlType::Q4_1 => (0.0, 15.0),
        GgmlType::Q8_0 => (-127.0, 127.0),
        _ => (-8.0, 7.0),
    }
}

/// The nearest integers under a scale and a minimum.
fn levels(x: &[f32; BLOCK], d: f32, m: f32, low: f32, high: f32) -> [f32; BLOCK] {
    let inverse = round::inverse(d);
    x.map(|x| nearest((x - m) * inverse, low, high))
}

/// The integer from `low` to `high` that is nearest to `x`, halves to even.
#[inline(always)]
pub fn nearest(x: f32, low: f32, high: f32) -> f32 {
    // adding 1.5 · 2^23 leaves no bits for fractions; a call of the system's `rint` would be in the way of vectors
    const ROUND: f32 = 12_582_912.0;
    let cut = if x > low { x } else { low };
    let cut = if cut < high { cut } else { high };
    (cut + ROUND) - ROUND
}

/// A number as f16 stores it; zero where that is no finite number.
pub fn stored(d: f32) -> f32 {
    let d = half_to_f32(f16::from_f32(d).to_bits());
    if d.is_finite() { d } else { 0.0 }
}

/// Scales and minima worth trying, as they are stored.
pub fn candidates(ty: GgmlType, x: &[f32; BLOCK], w: &[f32; BLOCK]) -> Vec<(f32, f32)> {
    match ty {
        GgmlType::Q4_1 => affine_candidates(x, w).collect(),
        _ => scale_candidates(ty, x, w).map(|d| (d, 0.0)).collect(),
    }
}

/// The same for a symmetric format.
fn scale_candidates(ty: GgmlType, x: &[f32; BLOCK], w: &[f32; BLOCK]) -> impl Iterator<Item = f32> {
    let (low, high) = range(ty);
    // where the largest weight comes to lie: near the ends of the range, on either side
    let (steps, width) = match ty {
        GgmlType::Q8_0 => (2, 1.0),
        _ => (9, 0.4),
    };
    let largest = round::largest(x);
    (0..steps).flat_map(move |step| {
        let inside = step as f32 * width;
        [low - 1.2 + inside, high + 1.2 - inside].map(|level| {
            let q = levels(x, largest / level, 0.0, low, high);
            let (mut wxq, mut wqq) = ([0f32; 8], [0f32; 8]);
            for i in 0..BLOCK {
                wxq[i % 8] += w[i] * x[i] * q[i];
                wqq[i % 8] += w[i] * q[i] * q[i];
            }
            let (wxq, wqq): (f32, f32) = (wxq.iter().sum(), wqq.iter().sum());
            stored(if wqq > 0.0 {
                wxq / wqq
            } else {
                largest / level
            })
        })
    })
}

/// The same for a format with a minimum.
fn affine_candidates(x: &[f32; BLOCK], w: &[f32; BLOCK]) -> impl Iterator<Item = (f32, f32)> {
    let min = x.iter().copied().fold(f32::MAX, f32::min);
    let max = x.iter().copied().fold(f32::MIN, f32::max);
    (0..12).map(move |step| {
        // as if there were more or fewer levels
        let d = (max - min) / (13.4 + 0.2 * step as f32);
        let q = levels(x, d, min, 0.0, 15.0);
        let (mut s, mut sx, mut sq, mut sqq, mut sxq) = (0f64, 0f64, 0f64, 0f64, 0f64);
        for i in 0..BLOCK {
            let (w, x, q) = (f64::from(w[i]), f64::from(x[i]), f64::from(q[i]));
            s += w;
            sx += w * x;
            sq += w * q;
            sqq += w * q * q;
            sxq += w * x * q;
        }
        let determinant = s * sqq - sq * sq;
        if determinant <= 0.0 {
            return (stored(d), stored(min));
        }
        let best = (s * sxq - sq * sx) / determinant;
        let d = stored(best as f32);
        // the minimum that is best for the scale as it is stored
        (d, stored(((sx - f64::from(d) * sq) / s) as f32))
    })
}

/// A block of these integers.
pub fn encode(ty: GgmlType, d: f32, m: f32, q: &[f32; BLOCK]) -> Vec<u8> {
    let mut out = f16::from_f32(d).to_le_bytes().to_vec();
    match ty {
        GgmlType::Q8_0 => q8::put(q, &mut out),
        GgmlType::Q4_1 => {
            out.extend(f16::from_f32(m).to_le_bytes());
            q4::put(q, 0.0, &mut out);
        }
        _ => q4::put(q, 8.0, &mut out),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn searching_never_loses(
            x in prop::array::uniform32(-3f32..3.0),
            w in prop::array::uniform32(0f32..10.0),
            spread in 0i32..12,
        ) {
            // some blocks with a few large weights
            let x: [f32; BLOCK] = std::array::from_fn(|i| x[i] * 2f32.powi(-(i as i32 * spread / 8)));
            for ty in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
                for importance in [None, Some(&w[..])] {
                    let (mut plain, mut searched) = (Vec::new(), Vec::new());
                    quantize_row(ty, &x, &mut plain).unwrap();
                    quantize_row_searched(ty, &x, importance, &mut searched).unwrap();
                    let w = importance.map_or([1.0; BLOCK], |_| w);
                    prop_assert!(error(ty, &searched, &x, &w) <= error(ty, &plain, &x, &w));
                }
            }
        }
    }

    #[test]
    fn what_lies_on_the_grid_stays() {
        let x: [f32; BLOCK] = std::array::from_fn(|i| 0.25 * ((i * 7 % 16) as f32 - 8.0));
        for ty in [GgmlType::Q4_0, GgmlType::Q4_1] {
            let mut out = Vec::new();
            quantize_row_searched(ty, &x, None, &mut out).unwrap();
            assert_eq!(error(ty, &out, &x, &[1.0; BLOCK]), 0.0, "{ty}");
        }
    }

    #[test]
    fn a_grid_that_plain_rounding_misses_is_found() {
        // 7 is the largest, so plain rounding takes it for -8; one weight lies beside the grid, or it would be kept
        let mut x: [f32; BLOCK] = std::array::from_fn(|i| (i % 15) as f32 - 7.0);
        x[1] += 0.25;
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        quantize_row(GgmlType::Q4_0, &x, &mut plain).unwrap();
        quantize_row_searched(GgmlType::Q4_0, &x, None, &mut out).unwrap();
        assert!(error(GgmlType::Q4_0, &plain, &x, &[1.0; BLOCK]) > 0.2);
        assert!(error(GgmlType::Q4_0, &out, &x, &[1.0; BLOCK]) <= 0.0625);
    }

    #[test]
    fn zeros_stay_zeros() {
        for ty in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
            let mut out = Vec::new();
            quantize_row_searched(ty, &[0.0; BLOCK], None, &mut out).unwrap();
            assert_eq!(error(ty, &out, &[0.0; BLOCK], &[1.0; BLOCK]), 0.0);
        }
    }
}
