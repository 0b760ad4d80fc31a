//! Causal attention with grouped heads, RoPE and document boundaries on slices, and its gradient,
//! with the scores of a few queries of one key head at a time (Dao et al., FlashAttention, arXiv
//! 2205.14135: the backward pass computes the scores again from the logarithm of each row's sum).
//!
//! In: queries `[B, T, H·E]`, keys and values `[B, T, K·E]` as the linear layers give them, before
//! RoPE. Out: `[B, T, H·E]` and, for the gradient, the logarithm of each softmax's sum
//! `[B, K, T · H/K]`, in the order of the tiles.
//!
//! B batch, T positions, H query heads, K key/value heads, E head_dim. A task is one key head of
//! one row of the batch with the G = H/K query heads that share it. They go through together, a
//! tile of queries at a time; query x of head g is tile row g · (tile) + x.

use std::ops::Range;

use rayon::prelude::*;

use super::shape::CausalAttention;
use crate::fake_kv_cache::KvView;
use crate::matmul::{Threads, View, product_into};
use crate::simd::{dot, exp, exp_sum, max, simd};
use crate::uninit::{Columns, split};

/// Scratch of one task.
struct Tile {
    /// RoPE-rotated and scaled queries, `[G · step, E]`.
    queries: Vec<f32>,
    /// Scores or weights, `[G · step, keys]`.
    scores: Vec<f32>,
    /// Weighted values, or the gradient with respect to the queries, `[G · step, E]`.
    mixed: Vec<f32>,
    /// The sum of each row's weights, which they are not yet divided by, `[G · step]`.
    totals: Vec<f32>,
}

impl CausalAttention {
    fn tile(&self) -> Tile {
        let rows = self.group() * self.step();
        Tile {
            queries: vec![0.0; rows * self.shape.head_dim],
            scores: vec![0.0; rows * self.shape.length],
            mixed: vec![0.0; rows * self.shape.head_dim],
            totals: vec![0.0; rows],
        }
    }

    /// The columns of `data` `[B, T, heads · E]` that belong to each task.
    fn columns<'a>(&self, data: &'a mut [f32], heads: usize) -> Vec<Columns<'a>> {
        let rows = self.shape.length;
        data.chunks_exact_mut(rows * heads * self.shape.head_dim)
            .flat_map(|row| split(row, rows, self.shape.kv_heads))
            .collect()
    }

    /// Fills the tile's scores of queries `rows` against `keys`.
    fn scores(
        &self,
        (b, head): (usize, usize),
        rows: &Range<usize>,
        keys: &Range<usize>,
        q: &[f32],
        kv: &KvView<'_>,
        tile: &mut Tile,
    ) {
        let (e, g) = (self.shape.head_dim, self.group());
        let scale = self.scale();
        simd!({
            for (x, to) in tile.queries.chunks_exact_mut(e).enumerate() {
                let (of, t) = (x / rows.len(), rows.start + x % rows.len());
                if of < g {
                    let query = &q[self.at(b, t, head * g + of, self.shape.heads)];
                    self.rotate((b, t), query, scale, to);
                }
            }
        });
        let queries = View::new(&tile.queries, g * rows.len(), e);
        product(&mut tile.scores, queries, kv.keys(keys).t());
    }
}

/// `out = a b`, by the calling thread alone.
fn product(out: &mut [f32], a: View<'_>, b: View<'_>) {
    product_into(out, a, b, false, Threads::One);
}

/// `out += a b`, by the calling thread alone.
fn add_product(out: &mut [f32], a: View<'_>, b: View<'_>) {
    product_into(out, a, b, true, Threads::One);
}

/// Where each query's visible keys lie in its tile row of `keys.len()` scores.
#[inline(always)]
fn visible(g: &CausalAttention, b: usize, t: usize, keys: &Range<usize>) -> Range<usize> {
    g.start(b, t) - keys.start..t + 1 - keys.start
}

/// Fills `out` `[B, T, H·E]` and `logs` `[B, K, T · G]`.
pub(super) fn forward(
    attention: &CausalAttention,
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    logs: &mut [f32],
) {
    let (g, rows) = (attention, attention.shape.length);
    if q.is_empty() {
        return;
    }
    let outs = g.columns(out, g.shape.heads).into_par_iter();
    let tasks = outs.zip(logs.par_chunks_exact_mut(rows * g.group()));
    tasks.enumerate().for_each(|(i, (mut out, logs))| {
        let at = (i / g.shape.kv_heads, i % g.shape.kv_heads);
        forward_head(g, at, [q, k, v], &mut out, logs);
    });
}

fn forward_head(
    g: &CausalAttention,
    (b, head): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    out: &mut Columns<'_>,
    logs: &mut [f32],
) {
    let (e, group) = (g.shape.head_dim, g.group());
    let mut kv = g.kv_view(b, head, k, v);
    let mut tile = g.tile();
    for first in (0..g.shape.length).step_by(g.step()) {
        let rows = first..g.shape.length.min(first + g.step());
        let keys = g.keys(b, &rows);
        kv.advance(first);
        g.scores((b, head), &rows, &keys, q, &kv, &mut tile);
        let count = group * rows.len();
        let logs = &mut logs[first * group..rows.end * group];
        simd!({
            let scores = tile.scores.chunks_exact_mut(keys.len()).take(count);
            let sums = tile.totals.iter_mut().zip(logs.iter_mut());
            for ((x, scores), (total, log)) in scores.enumerate().zip(sums) {
                let seen = visible(g, b, first + x % rows.len(), &keys);
                let (before, rest) = scores.split_at_mut(seen.start);
                let (seen, after) = rest.split_at_mut(seen.len());
                before.fill(0.0);
                after.fill(0.0);
                let largest = max(seen);
                *total = exp_sum(seen, largest);
                *log = largest + total.ln();
            }
        });
        let weights = View::new(&tile.scores, count, keys.len());
        product(&mut tile.mixed, weights, kv.values(&keys));
        simd!({
            for (x, mixed) in tile.mixed.chunks_exact(e).take(count).enumerate() {
                let (of, t) = (x / rows.len(), first + x % rows.len());
                let share = 1.0 / tile.totals[x];
                for (to, mixed) in out.row(t)[of * e..][..e].iter_mut().zip(mixed) {
                    *to = mixed * share;
                }
            }
        });
    }
}

/// Fills the gradients `[dq, dk, dv]` of `[q, k, v]`, given `dy` of the output `y` and the
/// forward pass's `logs`.
pub(super) fn backward(
    attention: &CausalAttention,
    [q, k, v]: [&[f32]; 3],
    [y, dy, logs]: [&[f32]; 3],
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let (g, rows) = (attention, attention.shape.length);
    if q.is_empty() {
        return;
    }
    let dq = g.columns(dq, g.shape.heads).into_par_iter();
    let [dk, dv] = [dk, dv].map(|data| g.columns(data, g.shape.kv_heads));
    let tasks = dq
        .zip(dk)
        .zip(dv)
        .zip(logs.par_chunks_exact(rows * g.group()));
    tasks.enumerate().for_each(|(i, (((dq, dk), dv), logs))| {
        let at = (i / g.shape.kv_heads, i % g.shape.kv_heads);
        backward_head(g, at, [q, k, v], [y, dy, logs], [dq, dk, dv]);
    });
}

fn backward_head(
    g: &CausalAttention,
    (b, head): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    [y, dy, logs]: [&[f32]; 3],
    [mut dq, mut dk, mut dv]: [Columns<'_>; 3],
) {
    let (e, group) = (g.shape.head_dim, g.group());
    let mut kv = g.kv_view(b, head, k, v);
    // Gradients of the rotated keys and of the values, and a tile's of its outputs.
    let mut drotated = vec![0f32; g.shape.length * e];
    let mut dvalues = vec![0f32; g.shape.length * e];
    let mut tile = g.tile();
    let mut douts = vec![0f32; tile.queries.len()];
    let mut dscores = vec![0f32; tile.scores.len()];
    for first in (0..g.shape.length).step_by(g.step()) {
        let rows = first..g.shape.length.min(first + g.step());
        let keys = g.keys(b, &rows);
        let (count, n) = (group * rows.len(), keys.len());
        let place = |x: usize| (x / rows.len(), first + x % rows.len());
        kv.advance(first);
        g.scores((b, head), &rows, &keys, q, &kv, &mut tile);
        let logs = &logs[first * group..rows.end * group];
        simd!({
            let scores = tile.scores.chunks_exact_mut(n);
            for ((x, scores), log) in scores.take(count).enumerate().zip(logs) {
                let seen = visible(g, b, place(x).1, &keys);
                scores[..seen.start].fill(0.0);
                scores[seen.end..].fill(0.0);
                for score in &mut scores[seen] {
                    *score = exp(*score - log);
                }
            }
            for (x, to) in douts.chunks_exact_mut(e).take(count).enumerate() {
                let (of, t) = place(x);
                to.copy_from_slice(&dy[g.at(b, t, head * group + of, g.shape.heads)]);
            }
        });
        let weights = View::new(&tile.scores, count, n);
        let dout = View::new(&douts, count, e);
        let part = &mut dvalues[keys.start * e..keys.end * e];
        add_product(part, weights.t(), dout);
        product(&mut dscores, dout, kv.values(&keys).t());
        simd!({
            let dscores = dscores.chunks_exact_mut(n).zip(douts.chunks_exact(e));
            let rows = dscores.zip(tile.scores.chunks_exact(n));
            for (x, ((dscores, dout), weights)) in rows.take(count).enumerate() {
                let (of, t) = place(x);
                let mean = dot(&y[g.at(b, t, head * group + of, g.shape.heads)], dout);
                for (d, weight) in dscores.iter_mut().zip(weights) {
                    *d = weight * (*d - mean);
                }
            }
        });
        let dscores = View::new(&dscores, count, n);
        let queries = View::new(&tile.queries, count, e);
        let part = &mut drotated[keys.start * e..keys.end * e];
        add_product(part, dscores.t(), queries);
        product(&mut tile.mixed, dscores, kv.keys(&keys));
        simd!({
            for (x, dquery) in tile.mixed.chunks_exact(e).take(count).enumerate() {
                let (of, t) = place(x);
                g.rotate_back((b, t), dquery, g.scale(), &mut dq.row(t)[of * e..][..e]);
            }
        });
    }
    simd!({
        for t in 0..g.shape.length {
            let row = t * e..(t + 1) * e;
            g.rotate_back((b, t), &drotated[row.clone()], 1.0, dk.row(t));
            dv.row(t).copy_from_slice(&dvalues[row]);
        }
    });
}
