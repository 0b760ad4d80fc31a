//! Attention of a few queries over sixty-four positions, with a running softmax (arXiv 2205.14135).
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

use super::ops::body::exp;

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
    pub(super) values: Vec<f32>,
    pub(super) scores: Vec<[f32; STEP]>,
    pub(super) width: usize,
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

pub(super) type Attend = unsafe fn(step: &Step, state: &mut State);

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
    pub(super) fn check(&self, step: &Step) {
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

    /// Takes in 64 positions with the active kernels.
    ///
    /// # Panics
    ///
    /// If the parts of `step` do not have the sizes given above.
    pub fn step(&mut self, step: &Step) {
        self.check(step);
        // SAFETY: the current table's features were detected; the function checks what it takes.
        unsafe { (super::table::current().attend)(step, self) }
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

/// The step in plain Rust. Every sum is made of fused multiply-adds in the order of channels, or of positions: all
/// tables do just that, so that their results are the same bits.
pub(super) fn attend(step: &Step, state: &mut State) {
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

/// Turns query `i`'s scores of the `seen` positions into weights under its largest so far, others into zeros.
#[inline(always)]
pub(super) fn softmax(seen: usize, state: &mut State, i: usize) {
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

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use retort_test_kit::Random;

    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let values = Random::new(seed).f32s(n).into_iter();
        values.map(|value| value * 2.0).collect()
    }

    /// Every table against a softmax in f64, over two steps cut and merged or not; and against each other, bit by bit.
    #[test]
    fn attention_agrees_with_f64_and_between_tables() {
        let mut references = Vec::new();
        for (k, (n, hd)) in Kernels::available()
            .into_iter()
            .flat_map(|k| [(1, 16), (3, 20), (7, 64), (9, 80), (16, 128)].map(|s| (k, s)))
        {
            let width = width(hd);
            let queries = values(n * hd, 1);
            let (keys, stored) = (values(2 * STEP * hd, 2), values(2 * STEP * width, 3));
            let seen: Vec<usize> = (0..n).map(|i| STEP + 1 + (i * 13) % STEP).collect();
            let mut state = State::default();
            let mut second = State::default();
            state.reset(n, hd);
            second.reset(n, hd);
            for at in 0..2 {
                let seen: Vec<_> = seen
                    .iter()
                    .map(|s| s.saturating_sub(at * STEP).min(STEP))
                    .collect();
                let step = Step {
                    queries: &queries,
                    head_dim: hd,
                    keys: &keys[at * STEP * hd..][..STEP * hd],
                    values: &stored[at * STEP * width..][..STEP * width],
                    seen: &seen,
                };
                // SAFETY: the table is available, so its features were detected.
                unsafe {
                    (k.attend)(
                        &step,
                        if n % 2 == 0 || at == 0 {
                            &mut state
                        } else {
                            &mut second
                        },
                    )
                };
            }
            state.merge(&second);
            // the same bits as the scalar table, which comes first
            let found = references.iter().find(|(shape, _)| *shape == (n, hd));
            match found {
                Some((_, scalar)) => assert_eq!(&state.values, scalar, "{} {n} {hd}", k.name),
                None => references.push(((n, hd), state.values.clone())),
            }
            for i in 0..n {
                let score = |p: usize| -> f64 {
                    let key = |d: usize| keys[(p / TILE * hd + d) * TILE + p % TILE];
                    (0..hd)
                        .map(|d| f64::from(queries[i * hd + d]) * f64::from(key(d)))
                        .sum()
                };
                let scores: Vec<f64> = (0..seen[i]).map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                let mut out = vec![0.0; hd];
                state.output(i, &mut out);
                for d in 0..hd {
                    let want: f64 = (scores.iter().enumerate())
                        .map(|(p, s)| {
                            (s - largest).exp() / total * f64::from(stored[p * width + d])
                        })
                        .sum();
                    assert!(
                        (f64::from(out[d]) - want).abs() < 3e-5,
                        "{} {n} {hd}",
                        k.name
                    );
                }
            }
        }
    }
}
