//! The reference: every kernel in plain Rust, for machines without a faster one and for the others' tests.

use super::activations::Row;
use super::panel::{Panel, ROWS};
use super::rows16;
use super::tokens::{TOKENS, Tokens};
use crate::quant::{GgmlType, half_to_f32};

/// `y[r] = Σ w[r] x` over rows in the file's layout, for formats of 32 weights to a block.
fn gemv<const BYTES: usize>(
    rows: &[u8],
    x: Row,
    y: &mut [f32],
    block: impl Fn(&[u8; BYTES], &[i8; 32]) -> (f32, f32, i32),
) {
    let (blocks, _) = rows.as_chunks::<BYTES>();
    let (q, _) = x.q.as_chunks::<32>();
    for (row, y) in blocks.chunks_exact(q.len()).zip(y) {
        let (mut sum, mut mins) = (0f32, 0f32);
        for ((w, q), [d, s]) in row.iter().zip(q).zip(x.scales) {
            let (scale, min, dot) = block(w, q);
            sum += scale * d * dot as f32;
            mins += min * s;
        }
        *y = sum + mins;
    }
}

fn half_at<const N: usize>(block: &[u8; N], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn nibble_dot(bytes: &[u8], q: &[i8; 32], offset: i32) -> i32 {
    let pairs = bytes.iter().zip(q[..16].iter().zip(&q[16..]));
    pairs
        .map(|(b, (low, high))| {
            (i32::from(b & 15) - offset) * i32::from(*low)
                + (i32::from(b >> 4) - offset) * i32::from(*high)
        })
        .sum()
}

pub(super) fn gemv_q4_0(rows: &[u8], x: Row, y: &mut [f32]) {
    gemv::<18>(rows, x, y, |w, q| {
        (half_at(w, 0), 0.0, nibble_dot(&w[2..], q, 8))
    });
}

pub(super) fn gemv_q4_1(rows: &[u8], x: Row, y: &mut [f32]) {
    gemv::<20>(rows, x, y, |w, q| {
        (half_at(w, 0), half_at(w, 2), nibble_dot(&w[4..], q, 0))
    });
}

pub(super) fn gemv_q8_0(rows: &[u8], x: Row, y: &mut [f32]) {
    gemv::<34>(rows, x, y, |w, q| {
        let dot = w[2..]
            .iter()
            .zip(q)
            .map(|(w, q)| i32::from(*w as i8) * i32::from(*q))
            .sum();
        (half_at(w, 0), 0.0, dot)
    });
}

/// An unpacked row (`w = d q + m`, groups of `G`) times one token.
pub(super) fn dot_unpacked<const G: usize>(q: &[i8], d: &[f32], m: &[f32], x: Row) -> f32 {
    let mut sum = 0f32;
    let (weights, _) = q.as_chunks::<G>();
    let (values, _) = x.q.as_chunks::<G>();
    for (g, (w, q)) in weights.iter().zip(values).enumerate() {
        let [scale, s] = x.scales[g * G / 32];
        let dot: i32 = w
            .iter()
            .zip(q)
            .map(|(w, q)| i32::from(*w) * i32::from(*q))
            .sum();
        sum += d[g] * scale * dot as f32;
        if G == 32 {
            sum += m[g] * s; // formats with groups of 16 have no minima
        }
    }
    sum
}

/// Interleaves sixteen unpacked rows, `cols` integers each one after another, as a panel wants them, adding `bias`.
pub(super) fn interleave(rows: &[i8], bias: i8, out: &mut [[[i8; 4]; ROWS]]) {
    for (r, row) in rows.chunks_exact(out.len() * 4).enumerate().take(ROWS) {
        for (out, from) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            out[r] = from.map(|q| q.wrapping_add(bias));
        }
    }
}

/// A panel times eight tokens: `out[t][r]`.
pub(super) fn tile(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    let per_group = p.group / 4;
    for (t, out) in out.iter_mut().enumerate() {
        *out = [0.0; ROWS];
        for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
            let mut dots = [0i32; ROWS];
            for k in g * per_group..(g + 1) * per_group {
                let values = &x.q[k / 2][t][k % 2 * 4..][..4];
                for (dot, w) in dots.iter_mut().zip(&p.q[k]) {
                    let products = w.iter().zip(values);
                    *dot += products
                        .map(|(w, v)| i32::from(*w) * i32::from(*v))
                        .sum::<i32>();
                }
            }
            let block = g * p.group / 32;
            let scale = x.d[block][t];
            let s = scale * (x.sums[block][0][t] + x.sums[block][1][t]) as f32;
            for r in 0..ROWS {
                out[r] += d[r] * scale * dots[r] as f32;
                if p.has_min {
                    out[r] += m[r] * s;
                }
            }
        }
    }
}

/// The integers of row `r` of a block of sixteen, and its scale.
fn rows16_block(block: &[u8], r: usize) -> (f32, [i32; 32]) {
    let mut q = [0; 32];
    for i in 0..16 {
        let byte = block[rows16::NIBBLES + (i / 4 * ROWS + r) * 4 + i % 4];
        (q[i], q[i + 16]) = (i32::from(byte & 15) - 8, i32::from(byte >> 4) - 8);
    }
    let d = half_to_f32(u16::from_le_bytes([block[2 * r], block[2 * r + 1]]));
    (d, q)
}

/// Panels of sixteen rows times one token. One fused multiply-add a block, block after block: all tables do just that,
/// for one token or many, so that their results are the same bits.
pub(super) fn gemv_rows16(panels: &[u8], x: Row, y: &mut [f32]) {
    let panels = panels.chunks_exact(x.scales.len() * rows16::BLOCK_BYTES);
    for (panel, y) in panels.zip(y.chunks_exact_mut(ROWS)) {
        y.fill(0.0);
        let (values, _) = x.q.as_chunks::<32>();
        for (b, block) in panel.chunks_exact(rows16::BLOCK_BYTES).enumerate() {
            for (r, y) in y.iter_mut().enumerate() {
                let (d, q) = rows16_block(block, r);
                let dot: i32 = q
                    .iter()
                    .zip(&values[b])
                    .map(|(w, v)| w * i32::from(*v))
                    .sum();
                *y = (dot as f32).mul_add(d * x.scales[b][0], *y);
            }
        }
    }
}

/// A panel of sixteen rows times eight tokens.
pub(super) fn tile_rows16(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    *out = [[0.0; ROWS]; TOKENS];
    for (b, block) in panel.chunks_exact(rows16::BLOCK_BYTES).enumerate() {
        for r in 0..ROWS {
            let (d, q) = rows16_block(block, r);
            for (t, out) in out.iter_mut().enumerate() {
                let values = x.q[4 * b..4 * b + 4].iter().flat_map(|columns| columns[t]);
                let dot: i32 = q.iter().zip(values).map(|(w, v)| w * i32::from(v)).sum();
                out[r] = (dot as f32).mul_add(d * x.d[b][t], out[r]);
            }
        }
    }
}

/// One row of float weights, in the file's encoding, times `T` tokens.
pub(super) fn float_dot<const T: usize>(ty: GgmlType, w: &[u8], x: &[&[f32]; T]) -> [f32; T] {
    match ty {
        GgmlType::F16 => float_lanes(w.as_chunks::<2>().0, x, |b| {
            half_to_f32(u16::from_le_bytes(*b))
        }),
        GgmlType::BF16 => float_lanes(w.as_chunks::<2>().0, x, |b| {
            f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)
        }),
        _ => float_lanes(w.as_chunks::<4>().0, x, |b| f32::from_le_bytes(*b)),
    }
}

/// Sums in eight lanes, as the vector kernels do, so that rounding is comparable and LLVM can vectorise.
#[inline(always)]
fn float_lanes<W, const T: usize>(w: &[W], x: &[&[f32]; T], value: impl Fn(&W) -> f32) -> [f32; T] {
    const LANES: usize = 8;
    let mut sums = [[0f32; LANES]; T];
    let (chunks, rest) = w.as_chunks::<LANES>();
    for (i, w) in chunks.iter().enumerate() {
        for (lane, w) in w.iter().enumerate() {
            let w = value(w);
            for (sum, x) in sums.iter_mut().zip(x) {
                sum[lane] += w * x[i * LANES + lane];
            }
        }
    }
    let start = chunks.len() * LANES;
    for (lane, w) in rest.iter().enumerate() {
        let w = value(w);
        for (sum, x) in sums.iter_mut().zip(x) {
            sum[lane] += w * x[start + lane];
        }
    }
    sums.map(|sum| sum.iter().sum())
}
