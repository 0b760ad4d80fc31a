//! Causal attention with grouped heads, rotary positions and document boundaries, and its
//! gradient, without ever holding the scores of more than a few queries of one key head
//! (after Dao et al., FlashAttention, arXiv 2205.14135: the backward pass computes the
//! scores again from the logarithm of each row's sum).
//!
//! In: queries `[B, T, H·E]`, keys and values `[B, T, K·E]` as the linear layers give them,
//! not yet turned. Out: `[B, T, H·E]` and, for the gradient, the logarithm of each softmax's
//! sum
//! `[B, K, T · H/K]`, in the order of the tiles.
//!
//! B batch, T positions, H query heads, K key/value heads, E head_dim. A task is one key
//! head of one row of the batch with the G = H/K query heads that share it; they go through
//! together, a tile of queries at a time, query x of head g at tile row g · (tile) + x.
//! Keys and values are found as [`held`](super::held) has them.

use std::ops::Range;

use rayon::prelude::*;

use super::held::{BLOCK, Held};
use super::product::{Threads, View, product_into};
use super::raw::{Columns, split};
use super::vector::{dot, exp, exp_sum, max, simd};

/// What attention needs to know beside queries, keys and values.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// B.
    pub batch: usize,
    /// T.
    pub length: usize,
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// E.
    pub head_dim: usize,
    /// Cosines of the rotary angles, `[1 or B, T, E/2]`.
    pub cos: Vec<f32>,
    /// Their sines.
    pub sin: Vec<f32>,
    /// The first key that each query sees, `[B, T]`; all see from the first where absent.
    pub starts: Option<Vec<usize>>,
    /// Whether keys and values are rounded as the engine's cache of 8 bits does; all see from the
    /// first position then.
    pub rounded: bool,
}

/// Queries of a head in a tile, if the heads are not grouped.
const TILE: usize = 64;
/// At least this many, however many heads share a key head.
const FEWEST: usize = 16;

/// Scratch of one task.
struct Tile {
    /// Turned and scaled queries, `[G · step, E]`.
    queries: Vec<f32>,
    /// Scores or weights, `[G · step, keys]`.
    scores: Vec<f32>,
    /// Weighted values, or the gradient with respect to the queries, `[G · step, E]`.
    mixed: Vec<f32>,
    /// What a row's weights add up to before they are divided by it, `[G · step]`.
    totals: Vec<f32>,
}

impl Geometry {
    /// G.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn step(&self) -> usize {
        let step = (TILE / self.group()).max(FEWEST);
        // What is rounded changes at the blocks' ends, which a tile must not cross.
        let step = match (self.rounded, step < BLOCK) {
            (false, _) => step,
            (true, true) => FEWEST,
            (true, false) => BLOCK,
        };
        step.min(self.length.max(1))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// The first key that the query at `t` of row `b` sees.
    fn start(&self, b: usize, t: usize) -> usize {
        let start = |starts: &Vec<usize>| starts[b * self.length + t].min(t);
        self.starts.as_ref().map_or(0, start)
    }

    /// The keys that any query of `rows` sees.
    fn keys(&self, b: usize, rows: &Range<usize>) -> Range<usize> {
        let first = rows.clone().map(|t| self.start(b, t)).min().unwrap_or(0);
        first..rows.end
    }

    /// Cosines and sines at position `t` of row `b`.
    #[inline(always)]
    fn angles(&self, b: usize, t: usize) -> (&[f32], &[f32]) {
        let half = self.head_dim / 2;
        let rows = (self.cos.len() / (self.length * half).max(1)).max(1);
        let at = ((b % rows) * self.length + t) * half;
        (&self.cos[at..at + half], &self.sin[at..at + half])
    }

    /// `to = scale · (x turned by its position)`.
    #[inline(always)]
    fn turn(&self, (b, t): (usize, usize), x: &[f32], scale: f32, to: &mut [f32]) {
        let (cos, sin) = self.angles(b, t);
        let half = cos.len();
        let (a, b) = (&x[..half], &x[half..2 * half]);
        let (low, high) = to.split_at_mut(half);
        let (low, high) = (&mut low[..half], &mut high[..half]);
        for i in 0..half {
            low[i] = (a[i] * cos[i] - b[i] * sin[i]) * scale;
            high[i] = (b[i] * cos[i] + a[i] * sin[i]) * scale;
        }
    }

    /// `to = scale · (x turned back)`: the gradient of [`turn`](Self::turn).
    #[inline(always)]
    fn turn_back(&self, (b, t): (usize, usize), x: &[f32], scale: f32, to: &mut [f32]) {
        let (cos, sin) = self.angles(b, t);
        let half = cos.len();
        let (a, b) = (&x[..half], &x[half..2 * half]);
        let (low, high) = to.split_at_mut(half);
        let (low, high) = (&mut low[..half], &mut high[..half]);
        for i in 0..half {
            low[i] = (a[i] * cos[i] + b[i] * sin[i]) * scale;
            high[i] = (b[i] * cos[i] - a[i] * sin[i]) * scale;
        }
    }

    /// Where head `head` of `heads` stands in row `t` of batch row `b`.
    fn at(&self, b: usize, t: usize, head: usize, heads: usize) -> Range<usize> {
        let first = ((b * self.length + t) * heads + head) * self.head_dim;
        first..first + self.head_dim
    }

    /// All keys of one head, turned, `[T, E]`.
    fn turned_keys(&self, b: usize, head: usize, keys: &[f32]) -> Vec<f32> {
        let mut turned = vec![0f32; self.length * self.head_dim];
        simd(
            #[inline(always)]
            || {
                for (t, to) in turned.chunks_exact_mut(self.head_dim).enumerate() {
                    self.turn((b, t), &keys[self.at(b, t, head, self.kv_heads)], 1.0, to);
                }
            },
        );
        turned
    }

    /// One head's keys and values out of `keys` and `values` `[B, T, K·E]`.
    fn held<'a>(&self, b: usize, head: usize, keys: &[f32], values: &'a [f32]) -> Held<'a> {
        let turned = self.turned_keys(b, head, keys);
        let values = &values[self.at(b, 0, head, self.kv_heads).start..];
        let stride = self.kv_heads * self.head_dim;
        match self.rounded {
            false => Held::plain(turned, values, stride, self.head_dim),
            true => Held::rounded(turned, values, stride, self.head_dim),
        }
    }

    fn tile(&self) -> Tile {
        let rows = self.group() * self.step();
        Tile {
            queries: vec![0.0; rows * self.head_dim],
            scores: vec![0.0; rows * self.length],
            mixed: vec![0.0; rows * self.head_dim],
            totals: vec![0.0; rows],
        }
    }

    /// Fills the tile's scores of queries `rows` against `keys`.
    fn scores(
        &self,
        (b, head): (usize, usize),
        rows: &Range<usize>,
        keys: &Range<usize>,
        q: &[f32],
        held: &Held<'_>,
        tile: &mut Tile,
    ) {
        let (e, g) = (self.head_dim, self.group());
        let scale = self.scale();
        simd(
            #[inline(always)]
            || {
                for (x, to) in tile.queries.chunks_exact_mut(e).enumerate() {
                    let (of, t) = (x / rows.len(), rows.start + x % rows.len());
                    if of < g {
                        let query = &q[self.at(b, t, head * g + of, self.heads)];
                        self.turn((b, t), query, scale, to);
                    }
                }
            },
        );
        let queries = View::new(&tile.queries, g * rows.len(), e);
        product_into(
            &mut tile.scores,
            queries,
            held.keys(keys).t(),
            false,
            Threads::One,
        );
    }
}

/// Where each query's visible keys lie in its tile row of `keys.len()` scores.
#[inline(always)]
fn visible(g: &Geometry, b: usize, t: usize, keys: &Range<usize>) -> Range<usize> {
    g.start(b, t) - keys.start..t + 1 - keys.start
}

/// Fills `out` `[B, T, H·E]` and `logs` `[B, K, T · G]`.
pub(crate) fn forward(
    geometry: &Geometry,
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    logs: &mut [f32],
) {
    let (g, rows) = (geometry, geometry.length);
    if q.is_empty() {
        return;
    }
    let per_row = rows * g.heads * g.head_dim;
    let outs: Vec<Columns<'_>> = out
        .chunks_exact_mut(per_row)
        .flat_map(|row| split(row, rows, g.kv_heads))
        .collect();
    let tasks = outs
        .into_par_iter()
        .zip(logs.par_chunks_exact_mut(rows * g.group()));
    tasks.enumerate().for_each(|(i, (mut out, logs))| {
        let at = (i / g.kv_heads, i % g.kv_heads);
        forward_head(g, at, [q, k, v], &mut out, logs);
    });
}

fn forward_head(
    g: &Geometry,
    (b, head): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    out: &mut Columns<'_>,
    logs: &mut [f32],
) {
    let (e, group) = (g.head_dim, g.group());
    let mut held = g.held(b, head, k, v);
    let mut tile = g.tile();
    for first in (0..g.length).step_by(g.step()) {
        let rows = first..g.length.min(first + g.step());
        let keys = g.keys(b, &rows);
        held.reach(first);
        g.scores((b, head), &rows, &keys, q, &held, &mut tile);
        let count = group * rows.len();
        let logs = &mut logs[first * group..rows.end * group];
        simd(
            #[inline(always)]
            || {
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
            },
        );
        let weights = View::new(&tile.scores, count, keys.len());
        product_into(
            &mut tile.mixed,
            weights,
            held.values(&keys),
            false,
            Threads::One,
        );
        simd(
            #[inline(always)]
            || {
                for (x, mixed) in tile.mixed.chunks_exact(e).take(count).enumerate() {
                    let (of, t) = (x / rows.len(), first + x % rows.len());
                    let share = 1.0 / tile.totals[x];
                    for (to, mixed) in out.row(t)[of * e..][..e].iter_mut().zip(mixed) {
                        *to = mixed * share;
                    }
                }
            },
        );
    }
}

/// Fills the gradients `[dq, dk, dv]` of `[q, k, v]`, given `dy` of the output `y` and the
/// forward pass's `logs`.
pub(crate) fn backward(
    geometry: &Geometry,
    [q, k, v]: [&[f32]; 3],
    [y, dy, logs]: [&[f32]; 3],
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let (g, rows) = (geometry, geometry.length);
    if q.is_empty() {
        return;
    }
    let width = |heads: usize| rows * heads * g.head_dim;
    let columns = |data| columns(data, rows, g.kv_heads);
    let outs: Vec<[Columns<'_>; 3]> = dq
        .chunks_exact_mut(width(g.heads))
        .zip(dk.chunks_exact_mut(width(g.kv_heads)))
        .zip(dv.chunks_exact_mut(width(g.kv_heads)))
        .flat_map(|((dq, dk), dv)| {
            let keys = columns(dk).into_iter().zip(columns(dv));
            let all = columns(dq).into_iter().zip(keys);
            all.map(|(dq, (dk, dv))| [dq, dk, dv])
        })
        .collect();
    let tasks = outs
        .into_par_iter()
        .zip(logs.par_chunks_exact(rows * g.group()));
    tasks.enumerate().for_each(|(i, (outs, logs))| {
        let at = (i / g.kv_heads, i % g.kv_heads);
        backward_head(g, at, [q, k, v], [y, dy, logs], outs);
    });
}

fn columns(data: &mut [f32], rows: usize, count: usize) -> Vec<Columns<'_>> {
    split(data, rows, count).collect()
}

fn backward_head(
    g: &Geometry,
    (b, head): (usize, usize),
    [q, k, v]: [&[f32]; 3],
    [y, dy, logs]: [&[f32]; 3],
    [mut dq, mut dk, mut dv]: [Columns<'_>; 3],
) {
    let (e, group) = (g.head_dim, g.group());
    let mut held = g.held(b, head, k, v);
    // Gradients of the turned keys and of the values, and a tile's of its outputs.
    let mut dturned = vec![0f32; g.length * e];
    let mut dvalues = vec![0f32; g.length * e];
    let mut tile = g.tile();
    let mut douts = vec![0f32; tile.queries.len()];
    let mut dscores = vec![0f32; tile.scores.len()];
    for first in (0..g.length).step_by(g.step()) {
        let rows = first..g.length.min(first + g.step());
        let keys = g.keys(b, &rows);
        let (count, n) = (group * rows.len(), keys.len());
        let place = |x: usize| (x / rows.len(), first + x % rows.len());
        held.reach(first);
        g.scores((b, head), &rows, &keys, q, &held, &mut tile);
        let logs = &logs[first * group..rows.end * group];
        simd(
            #[inline(always)]
            || {
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
                    to.copy_from_slice(&dy[g.at(b, t, head * group + of, g.heads)]);
                }
            },
        );
        let weights = View::new(&tile.scores, count, n);
        let dout = View::new(&douts, count, e);
        let part = &mut dvalues[keys.start * e..keys.end * e];
        product_into(part, weights.t(), dout, true, Threads::One);
        product_into(
            &mut dscores,
            dout,
            held.values(&keys).t(),
            false,
            Threads::One,
        );
        simd(
            #[inline(always)]
            || {
                let dscores = dscores.chunks_exact_mut(n).zip(douts.chunks_exact(e));
                let rows = dscores.zip(tile.scores.chunks_exact(n));
                for (x, ((dscores, dout), weights)) in rows.take(count).enumerate() {
                    let (of, t) = place(x);
                    let mean = dot(&y[g.at(b, t, head * group + of, g.heads)], dout);
                    for (d, weight) in dscores.iter_mut().zip(weights) {
                        *d = weight * (*d - mean);
                    }
                }
            },
        );
        let dscores = View::new(&dscores, count, n);
        let queries = View::new(&tile.queries, count, e);
        let part = &mut dturned[keys.start * e..keys.end * e];
        product_into(part, dscores.t(), queries, true, Threads::One);
        product_into(
            &mut tile.mixed,
            dscores,
            held.keys(&keys),
            false,
            Threads::One,
        );
        simd(
            #[inline(always)]
            || {
                for (x, dquery) in tile.mixed.chunks_exact(e).take(count).enumerate() {
                    let (of, t) = place(x);
                    g.turn_back((b, t), dquery, g.scale(), &mut dq.row(t)[of * e..][..e]);
                }
            },
        );
    }
    simd(
        #[inline(always)]
        || {
            for t in 0..g.length {
                let row = t * e..(t + 1) * e;
                g.turn_back((b, t), &dturned[row.clone()], 1.0, dk.row(t));
                dv.row(t).copy_from_slice(&dvalues[row]);
            }
        },
    );
}
