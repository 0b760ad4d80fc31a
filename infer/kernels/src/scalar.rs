//! The reference: every kernel in plain Rust, for machines without a faster one and for the others' tests.

use crate::activation_tiles::{TOKENS, TileOutput, TokenTile};
use crate::formats::{RowFormat, panel_bytes, row_bytes};
use crate::int8::{Int8Row, quantize_blocks};
use crate::kernels::{Kernels, gemv, rows16};
use crate::panel::{Panel, Unit};
use crate::running_softmax::{State, Step, TILE, softmax};
use crate::vector_ops;
use retort_format::quant::rows16::{Format, ROWS};
use retort_format::quant::{GgmlType, half_to_f32, unpack_block};

pub(crate) static SCALAR: Kernels = Kernels {
    name: "scalar",
    needs: "nothing",
    detect: || true,
    gemv: gemv!(gemv, gemv),
    rows16: rows16!(gemv_rows16, Tile(tile_rows16)),
    peak: None,
    tile,
    interleave,
    bias: 0,
    float_dot_1: float_dot,
    float_dot_4: float_dot,
    quantize_blocks,
    attend,
    ops: vector_ops::PORTABLE,
};

/// `y[r] = Σ w[r] x` over rows of a quantized format in the file's layout, each block brought into the form
/// `w = d q + m`.
fn gemv<F: RowFormat>(rows: &[u8], x: Int8Row, y: &mut [f32]) {
    let (mut q, mut d, mut m) = ([0i8; 256], [0f32; 16], [0f32; 16]);
    let (size, group) = (F::SIZE, F::TY.group_size());
    let bytes = row_bytes::<F>(rows, &x, y);
    for (row, y) in rows.chunks_exact(bytes).zip(y) {
        let (mut sum, mut mins) = (0f32, 0f32);
        for (b, block) in row.chunks_exact(F::BYTES).enumerate() {
            unpack_block(F::TY, block, &mut q, &mut d, &mut m);
            let values = &x.q[b * size..][..size];
            let groups = q[..size]
                .chunks_exact(group)
                .zip(values.chunks_exact(group));
            for (g, (w, values)) in groups.enumerate() {
                let [scale, s] = x.scales[(b * size + g * group) / 32];
                let products = w.iter().zip(values);
                let dot: i32 = products.map(|(w, v)| i32::from(*w) * i32::from(*v)).sum();
                sum += d[g] * scale * dot as f32;
                if F::MIN {
                    mins += m[g] * s;
                }
            }
        }
        *y = sum + mins;
    }
}

fn interleave(rows: &[i8], bias: i8, out: &mut [Unit]) {
    for (r, row) in rows.chunks_exact(out.len() * 4).enumerate().take(ROWS) {
        for (out, from) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            out[r] = from.map(|q| q.wrapping_add(bias));
        }
    }
}

/// A panel times eight tokens: `out[t][r]`.
fn tile(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
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
            let s = x.scaled_sum(block, t);
            for r in 0..ROWS {
                out[r] += d[r] * scale * dots[r] as f32;
                if p.has_min {
                    out[r] += m[r] * s;
                }
            }
        }
    }
}

/// The integers of row `r` of a block of sixteen, its scale and its minimum.
fn rows16_block<F: Format>(block: &[u8], r: usize) -> (f32, f32, [i32; 32]) {
    let byte = |i: usize| block[F::WEIGHTS + (i / 4 * ROWS + r) * 4 + i % 4];
    let offset = if F::TY == GgmlType::Q4_0 { 8 } else { 0 };
    let q = std::array::from_fn(|i| match F::NIBBLES {
        true => i32::from(byte(i % 16) >> (i / 16 * 4) & 15) - offset,
        false => i32::from(byte(i) as i8),
    });
    let half = |at: usize| half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]));
    let m = if F::MIN { half(2 * (ROWS + r)) } else { 0.0 };
    (half(2 * r), m, q)
}

/// Panels of sixteen rows times one token. One fused multiply-add a block, block after block, and another for the
/// minima, whose sum is added last: all tables do just that, for one token or many, so that their results are the
/// same bits.
fn gemv_rows16<F: Format>(panels: &[u8], x: Int8Row, y: &mut [f32]) {
    let (values, _) = x.q.as_chunks::<32>();
    let bytes = panel_bytes::<F>(panels, &x, y);
    for (panel, y) in (panels.chunks_exact(bytes)).zip(y.as_chunks_mut::<ROWS>().0) {
        let mut mins = [0.0; ROWS];
        *y = [0.0; ROWS];
        for (b, block) in panel.chunks_exact(F::BLOCK).enumerate() {
            let [scale, s] = x.scales[b];
            for r in 0..ROWS {
                let (d, m, q) = rows16_block::<F>(block, r);
                let products = q.iter().zip(&values[b]).map(|(w, v)| w * i32::from(*v));
                y[r] = (products.sum::<i32>() as f32).mul_add(d * scale, y[r]);
                mins[r] = m.mul_add(s, mins[r]);
            }
        }
        if F::MIN {
            y.iter_mut().zip(mins).for_each(|(y, min)| *y += min);
        }
    }
}

/// A panel of sixteen rows times eight tokens.
fn tile_rows16<F: Format>(panel: &[u8], x: &TokenTile, out: &mut TileOutput) {
    *out = [[0.0; ROWS]; TOKENS];
    let mut mins = [[0.0; ROWS]; TOKENS];
    for (b, block) in panel.chunks_exact(F::BLOCK).enumerate() {
        for r in 0..ROWS {
            let (d, m, q) = rows16_block::<F>(block, r);
            for (t, (out, mins)) in out.iter_mut().zip(&mut mins).enumerate() {
                let values = x.q[4 * b..4 * b + 4].iter().flat_map(|columns| columns[t]);
                let dot: i32 = q.iter().zip(values).map(|(w, v)| w * i32::from(v)).sum();
                out[r] = (dot as f32).mul_add(d * x.d[b][t], out[r]);
                mins[r] = m.mul_add(x.scaled_sum(b, t), mins[r]);
            }
        }
    }
    if F::MIN {
        for (out, min) in out.iter_mut().flatten().zip(mins.iter().flatten()) {
            *out += min;
        }
    }
}

/// The step in plain Rust. Every sum is made of fused multiply-adds in the order of channels, or of positions: all
/// tables do just that, so that their results are the same bits.
fn attend(step: &Step, state: &mut State) {
    let (hd, width) = (step.head_dim, state.width);
    for (i, &seen) in step.seen.iter().enumerate() {
        let query = &step.queries[i * hd..(i + 1) * hd];
        for (tile, keys) in step.keys.chunks_exact(hd * TILE).enumerate() {
            let scores = &mut state.scores[i][tile * TILE..][..TILE];
            scores.fill(0.0);
            for (q, keys) in query.iter().zip(keys.as_chunks::<TILE>().0) {
                for (score, key) in scores.iter_mut().zip(keys) {
                    *score = q.mul_add(*key, *score);
                }
            }
        }
        softmax(seen, state, i);
        let sums = &mut state.values[i * width..(i + 1) * width];
        // positions that are not seen have weight zero, and may hold anything
        for (weight, values) in
            (state.scores[i].iter().zip(step.values.chunks_exact(width))).take(seen)
        {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = weight.mul_add(*value, *sum);
            }
        }
    }
}

/// One row of float weights, in the file's encoding, times `T` tokens.
pub(crate) fn float_dot<const T: usize>(ty: GgmlType, w: &[u8], x: &[&[f32]; T]) -> [f32; T] {
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
