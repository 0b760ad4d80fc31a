//! The reference: every kernel in plain Rust, for machines without a faster one and for the others' tests.

use super::activation_tiles::{TOKENS, Tokens};
use super::activations::Row;
use super::panel::Panel;
use retort_format::quant::rows16::{Format, ROWS};
use retort_format::quant::{GgmlType, half_to_f32, unpack_block};

/// `y[r] = Σ w[r] x` over rows of a quantized format in the file's layout, each block brought into the form
/// `w = d q + m`.
pub(super) fn gemv(ty: GgmlType, rows: &[u8], x: Row, y: &mut [f32]) {
    let (mut q, mut d, mut m) = ([0i8; 256], [0f32; 16], [0f32; 16]);
    let (size, group) = (ty.block_size(), ty.group_size());
    let blocks = x.q.len() / size;
    let row_bytes = blocks * ty.bytes_per_block();
    for (row, y) in rows.chunks_exact(row_bytes).zip(y) {
        let (mut sum, mut mins) = (0f32, 0f32);
        let blocks = row.chunks_exact(ty.bytes_per_block());
        for (b, block) in blocks.enumerate() {
            unpack_block(ty, block, &mut q, &mut d, &mut m);
            let values = &x.q[b * size..][..size];
            let groups = q[..size]
                .chunks_exact(group)
                .zip(values.chunks_exact(group));
            for (g, (w, values)) in groups.enumerate() {
                let [scale, s] = x.scales[(b * size + g * group) / 32];
                let products = w.iter().zip(values);
                let dot: i32 = products.map(|(w, v)| i32::from(*w) * i32::from(*v)).sum();
                sum += d[g] * scale * dot as f32;
                if ty.has_min() {
                    mins += m[g] * s;
                }
            }
        }
        *y = sum + mins;
    }
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
pub(super) fn gemv_rows16<F: Format>(panels: &[u8], x: Row, y: &mut [f32]) {
    let (values, _) = x.q.as_chunks::<32>();
    let panels = panels.chunks_exact(x.scales.len() * F::BLOCK);
    for (panel, y) in panels.zip(y.as_chunks_mut::<ROWS>().0) {
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
pub(super) fn tile_rows16<F: Format>(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    *out = [[0.0; ROWS]; TOKENS];
    let mut mins = [[0.0; ROWS]; TOKENS];
    for (b, block) in panel.chunks_exact(F::BLOCK).enumerate() {
        for r in 0..ROWS {
            let (d, m, q) = rows16_block::<F>(block, r);
            for (t, (out, mins)) in out.iter_mut().zip(&mut mins).enumerate() {
                let values = x.q[4 * b..4 * b + 4].iter().flat_map(|columns| columns[t]);
                let dot: i32 = q.iter().zip(values).map(|(w, v)| w * i32::from(v)).sum();
                out[r] = (dot as f32).mul_add(d * x.d[b][t], out[r]);
                let s = x.d[b][t] * (x.sums[b][0][t] + x.sums[b][1][t]) as f32;
                mins[r] = m.mul_add(s, mins[r]);
            }
        }
    }
    if F::MIN {
        for (out, min) in out.iter_mut().flatten().zip(mins.iter().flatten()) {
            *out += min;
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
