//! Attention of a few queries over sixty-four positions, with a running softmax (Dao et al.,
//! FlashAttention, arXiv 2205.14135): its sizes, its state, and the softmax that all kernels share.
//!
//! ```text
//! queries  [n, head_dim]                 scaled, of heads that share their keys
//! keys     [tiles][head_dim][16]         a tile is sixteen positions, so that scores need no horizontal sums
//! values   [tiles][16][width]            width: head_dim filled up to a multiple of 16
//! seen     [n]                           how many of the 64 positions each query may see
//! state    per query: the largest score so far, the sum of exponentials under it, the weighted sum of values
//! ```
//!
//! States of consecutive stretches of positions are merged in their order, so that a result does not depend on who
//! computed which stretch.

use crate::vector_ops::exp;
use std::ops::Range;

/// Positions in a tile.
pub const TILE: usize = 16;
/// Tiles that are taken together.
pub const TILES: usize = 4;
/// Positions that are taken together.
pub const STEP: usize = TILE * TILES;

/// The running softmax of `n` queries.
#[derive(Debug, Default, Clone)]
pub struct State {
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// [n, width]
    pub(crate) values: Vec<f32>,
    pub(crate) scores: Vec<[f32; STEP]>,
    pub(crate) width: usize,
}

/// The queries and what they look at.
pub struct Step<'a> {
    /// Queries `[n, head_dim]`, scaled.
    pub queries: &'a [f32],
    /// Width of a head.
    pub head_dim: usize,
    /// Keys `[tiles][head_dim][TILE]`.
    pub keys: &'a [f32],
    /// Values `[tiles][TILE][width]`.
    pub values: &'a [f32],
    /// For each query, the number of these positions that it sees.
    pub seen: &'a [usize],
}

impl Step<'_> {
    /// The largest number of positions that any of these queries sees. Positions past it may hold anything.
    pub(crate) fn seen_by_any(&self, queries: Range<usize>) -> usize {
        let seen = self.seen[queries].iter().copied();
        seen.max().unwrap_or(0)
    }
}

/// The width of a row of values.
pub const fn width(head_dim: usize) -> usize {
    head_dim.next_multiple_of(TILE)
}

impl State {
    /// Begins anew for `n` queries of heads of `head_dim`.
    pub fn reset(&mut self, n: usize, head_dim: usize) {
        self.width = width(head_dim);
        self.largest.clear();
        self.largest.resize(n, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(n, 0.0);
        self.values.clear();
        self.values.resize(n * self.width, 0.0);
        self.scores.resize(n, [0.0; STEP]);
    }

    /// Panics unless `step` and this state have the sizes given above, which makes the kernels' loads sound.
    pub(crate) fn check(&self, step: &Step) {
        let (n, hd) = (step.seen.len(), step.head_dim);
        assert!(
            self.width == width(hd)
                && self.largest.len() == n
                && self.sums.len() == n
                && self.scores.len() == n
                && self.values.len() == n * self.width
                && step.queries.len() == n * hd
                && step.keys.len() == STEP * hd
                && step.values.len() == STEP * self.width,
            "attention sizes"
        );
    }

    /// Takes in the state of the positions that follow.
    pub fn merge(&mut self, next: &State) {
        for i in 0..self.sums.len() {
            let largest = self.largest[i].max(next.largest[i]);
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let (a, b) = (
                exp(self.largest[i] - largest),
                exp(next.largest[i] - largest),
            );
            self.largest[i] = largest;
            self.sums[i] = self.sums[i] * a + next.sums[i] * b;
            let row = i * self.width..(i + 1) * self.width;
            for (to, from) in self.values[row.clone()].iter_mut().zip(&next.values[row]) {
                *to = *to * a + *from * b;
            }
        }
    }

    /// The weighted mean of the values seen by query `i`, `[head_dim]`.
    pub fn output(&self, i: usize, out: &mut [f32]) {
        let scale = 1.0 / self.sums[i];
        for (out, value) in out.iter_mut().zip(&self.values[i * self.width..]) {
            *out = value * scale;
        }
    }
}

/// Turns query `i`'s scores of the `seen` positions into weights under its largest so far, others into zeros.
#[inline(always)]
pub(crate) fn softmax(seen: usize, state: &mut State, i: usize) {
    let scores = &mut state.scores[i];
    let mut largest = [f32::NEG_INFINITY; TILE];
    scores[seen.min(STEP)..].fill(f32::NEG_INFINITY);
    for tile in scores.as_chunks::<TILE>().0 {
        for (largest, score) in largest.iter_mut().zip(tile) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(state.largest[i], f32::max);
    if largest == f32::NEG_INFINITY && seen == 0 {
        scores.fill(0.0);
        return;
    }
    let mut sums = [0f32; TILE];
    for tile in scores.as_chunks_mut::<TILE>().0 {
        for (sum, score) in sums.iter_mut().zip(tile) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    let scale = exp(state.largest[i] - largest);
    state.largest[i] = largest;
    state.sums[i] = state.sums[i] * scale + sums.iter().sum::<f32>();
    if scale != 1.0 {
        let row = &mut state.values[i * state.width..(i + 1) * state.width];
        row.iter_mut().for_each(|value| *value *= scale);
    }
}
