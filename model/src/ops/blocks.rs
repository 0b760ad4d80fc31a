//! Attention composed of Burn's operations, in blocks of queries: for devices that
//! [`attention`](super::attention) does not run on, and for queries that follow cached keys.
//!
//! The scores of all heads for all pairs of positions never exist at once in a forward
//! pass: queries go through in blocks of rows small enough that a block's scores stay below
//! a fixed size, each against the keys that it may see. Softmax's division comes after the
//! product with the values, so that one array of the size of the scores is kept for the
//! backward pass and not three.
//!
//! B batch, T queries, S keys (T and what a cache holds), H query heads, K key/value heads,
//! E head_dim.

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use super::held;
use crate::documents::Documents;
use crate::linear::to;

/// A block of queries against the keys it may see.
pub(crate) struct Block {
    rows: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    /// True where a query must not look, `[1 or B, 1, rows, keys]`.
    forbidden: Option<Tensor<4, Bool>>,
}

/// Scores of one block: 64 MiB in f32.
const SCORES: usize = 1 << 24;
/// A block has at least this many queries, however many heads and keys there are.
const FEWEST_ROWS: usize = 16;

impl Block {
    /// Queries in a block, for `t` of them against `s` keys in `heads` heads of all rows of
    /// the batch together.
    pub(crate) fn step(t: usize, s: usize, heads: usize) -> usize {
        (SCORES / (heads * s).max(1)).max(FEWEST_ROWS).min(t)
    }

    /// The blocks of `t` queries that follow `past` cached positions, `step` in each, or where keys and
    /// values are `rounded` those within one block of them.
    pub(crate) fn causal(
        t: usize,
        past: usize,
        step: usize,
        rounded: bool,
        device: &Device,
    ) -> Vec<Self> {
        // Column x of row r is forbidden when x > r + past + t: the blocks' masks are
        // windows of this one, each starting so that its diagonal falls on that line.
        let total = past + t;
        let wide = (t > 1).then(|| {
            let width = total + step;
            let mask: Vec<bool> = (0..step)
                .flat_map(|r| (0..width).map(move |x| x > r + total))
                .collect();
            Tensor::from_data(TensorData::new(mask, [1, 1, step, width]), device)
        });
        let ranges: Vec<_> = match rounded {
            false => ranges(t, step).collect(),
            true => ranges(past + t, 1 << step.clamp(1, held::BLOCK).ilog2())
                .filter(|rows| rows.end > past)
                .map(|rows| rows.start.saturating_sub(past)..rows.end - past)
                .collect(),
        };
        ranges
            .into_iter()
            .map(|rows| {
                let end = past + rows.end;
                let window = |mask: &Tensor<4, Bool>| {
                    mask.clone()
                        .narrow(2, 0, rows.len())
                        .narrow(3, total - past - rows.start, end)
                };
                Self {
                    forbidden: wide.as_ref().map(window),
                    keys: 0..end,
                    rows,
                }
            })
            .collect()
    }

    /// The blocks of packed rows, `step` queries in each. Keys before the first document
    /// that a block touches are left out.
    pub(crate) fn packed(documents: &Documents, step: usize, device: &Device) -> Vec<Self> {
        let [b, t] = documents.dims();
        ranges(t, step)
            .map(|rows| {
                let keys = documents.first_key(rows.start, rows.end)..rows.end;
                let mask = documents.forbidden(rows.start, rows.end, keys.start);
                let data = TensorData::new(mask, [b, 1, rows.len(), keys.len()]);
                Self {
                    forbidden: Some(Tensor::from_data(data, device)),
                    rows,
                    keys,
                }
            })
            .collect()
    }
}

fn ranges(t: usize, step: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..t).step_by(step.max(1)).map(move |i| i..t.min(i + step))
}

/// `softmax(q kᵀ) v` under `blocks`' masks: `q` `[B, H, T, E]` already scaled, `key` and
/// `value` `[B, K, S, E]`, all of one precision; where they are `rounded`, as [`held`] says. Answers
/// `[B, H, T, E]` in that precision; the softmax is f32's.
pub(crate) fn attend(
    q: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    blocks: &[Block],
    rounded: bool,
) -> Tensor<4> {
    let [b, h, _, e] = q.dims();
    let [_, k, s, _] = key.dims();
    let on_grids = rounded.then(|| held::composed([&key, &value], s / held::BLOCK));
    let parts = blocks.iter().map(|block| {
        let (rows, keys) = (block.rows.len(), block.keys.len());
        let [key, value] = match &on_grids {
            None => [&key, &value].map(|x| x.clone().narrow(2, block.keys.start, keys)),
            Some(on_grids) => held::found(on_grids, [&key, &value], block.keys.end),
        };
        // The query heads of one key head lie together, so their rows are stacked into
        // one product with it and keys need not be repeated.
        let stacked = h / k * rows;
        let scores = q
            .clone()
            .narrow(2, block.rows.start, rows)
            .reshape([b, k, stacked, e])
            .matmul(key.swap_dims(2, 3))
            .reshape([b, h, rows, keys]);
        let scores = to(scores, DType::F32);
        let scores = match &block.forbidden {
            Some(mask) => scores.mask_fill(mask.clone(), f32::NEG_INFINITY),
            None => scores,
        };
        let largest = scores.clone().detach().max_dim(3);
        let weights = (scores - largest).exp();
        let sums = weights.clone().sum_dim(3);
        let mixed = to(weights, value.dtype())
            .reshape([b, k, stacked, keys])
            .matmul(value.clone())
            .reshape([b, h, rows, e]);
        to(to(mixed, DType::F32) / sums, value.dtype())
    });
    let mut parts: Vec<Tensor<4>> = parts.collect();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    Tensor::cat(parts, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMS: [usize; 4] = [2, 4, 9, 3];

    fn values(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37 + salt * 11) % 29) as f32 / 10.0 - 1.4)
            .collect()
    }

    fn documents() -> Documents {
        let segments = [0, 0, 0, 1, 1, 1, 1, 2, 2, 5, 5, 5, 5, 5, 6, 7, 7, 7];
        Documents::new(&segments, &[0; 18], [2, 9])
    }

    /// Softmax attention by definition, in f64; `sees(row, query, key)`.
    fn reference(
        q: &[f32],
        k: &[f32],
        v: &[f32],
        sees: &dyn Fn(usize, usize, usize) -> bool,
    ) -> Vec<f64> {
        let [b, h, t, e] = DIMS;
        let mut out = Vec::new();
        for row in 0..b {
            for head in 0..h {
                let kv = (row * 2 + head / 2) * t;
                for i in 0..t {
                    let query = &q[((row * h + head) * t + i) * e..][..e];
                    let dot = |j: usize| -> f64 {
                        let key = &k[(kv + j) * e..][..e];
                        query.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum()
                    };
                    let weight = |j: usize| if sees(row, i, j) { dot(j).exp() } else { 0.0 };
                    let sum: f64 = (0..t).map(weight).sum();
                    out.extend((0..e).map(|x| {
                        (0..t)
                            .map(|j| weight(j) / sum * f64::from(v[(kv + j) * e + x]))
                            .sum::<f64>()
                    }));
                }
            }
        }
        out
    }

    fn tensor(v: &[f32], heads: usize, device: &Device) -> Tensor<4> {
        let [b, _, t, e] = DIMS;
        Tensor::from_data(TensorData::new(v.to_vec(), [b, heads, t, e]), device)
    }

    #[test]
    fn blocks_of_every_size_give_what_the_definition_does() {
        let device = Device::flex();
        let (q, k, v) = (values(216, 1), values(108, 2), values(108, 3));
        let documents = documents();
        let run = |blocks: &[Block]| -> Vec<f32> {
            let (q, k, v) = (
                tensor(&q, 4, &device),
                tensor(&k, 2, &device),
                tensor(&v, 2, &device),
            );
            attend(q, k, v, blocks, false)
                .into_data()
                .try_into_vec()
                .unwrap()
        };
        let check = |blocks: &[Block], sees: &dyn Fn(usize, usize, usize) -> bool| {
            for (a, b) in run(blocks).iter().zip(reference(&q, &k, &v, sees)) {
                assert!((f64::from(*a) - b).abs() < 1e-5, "{a} {b}");
            }
        };
        for step in [1, 2, 4, 9] {
            check(&Block::causal(9, 0, step, false, &device), &|_, i, j| {
                j <= i
            });
            check(&Block::packed(&documents, step, &device), &|row, i, j| {
                !documents.forbidden(i, i + 1, 0)[row * (i + 1)..][..=i]
                    .get(j)
                    .is_none_or(|f| *f)
            });
        }
    }

    #[test]
    fn cached_queries_see_the_cache_and_themselves() {
        let device = Device::flex();
        let (q, k, v) = (values(216, 1), values(108, 2), values(108, 3));
        let tensors = || {
            (
                tensor(&q, 4, &device),
                tensor(&k, 2, &device),
                tensor(&v, 2, &device),
            )
        };
        let (all, key, value) = tensors();
        let whole = attend(
            all.clone(),
            key.clone(),
            value.clone(),
            &Block::causal(9, 0, 9, false, &device),
            false,
        );
        for past in 1..9 {
            let t = 9 - past;
            for step in [1, 2, t] {
                let blocks = Block::causal(t, past, step, false, &device);
                let part = attend(
                    all.clone().narrow(2, past, t),
                    key.clone(),
                    value.clone(),
                    &blocks,
                    false,
                );
                let expected: Vec<f32> = whole
                    .clone()
                    .narrow(2, past, t)
                    .into_data()
                    .try_into_vec()
                    .unwrap();
                let part: Vec<f32> = part.into_data().try_into_vec().unwrap();
                for (a, b) in part.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-5, "past {past}: {a} {b}");
                }
            }
        }
    }

    /// The gradient of a weighted sum of the outputs, against central differences of the
    /// definition, with documents and several blocks.
    #[test]
    fn gradients_match_finite_differences() {
        let device = Device::flex().autodiff();
        let inputs = [values(216, 1), values(108, 2), values(108, 3)];
        let weights = values(216, 4);
        let documents = documents();
        let sees = |row: usize, i: usize, j: usize| {
            j <= i && !documents.forbidden(i, i + 1, 0)[row * (i + 1) + j]
        };
        let tracked: Vec<Tensor<4>> = inputs
            .iter()
            .zip([4, 2, 2])
            .map(|(v, heads)| tensor(v, heads, &device).require_grad())
            .collect();
        let [q, k, v] = [0, 1, 2].map(|i| tracked[i].clone());
        let out = attend(q, k, v, &Block::packed(&documents, 4, &device), false);
        let grads = (out * tensor(&weights, 4, &device)).sum().backward();
        let loss = |inputs: &[Vec<f32>; 3]| -> f64 {
            reference(&inputs[0], &inputs[1], &inputs[2], &sees)
                .iter()
                .zip(&weights)
                .map(|(y, w)| y * f64::from(*w))
                .sum()
        };
        for (which, tensor) in tracked.iter().enumerate() {
            let grad: Vec<f32> = tensor
                .grad(&grads)
                .unwrap()
                .into_data()
                .try_into_vec()
                .unwrap();
            for (i, got) in grad.iter().enumerate().step_by(5) {
                let at = |delta: f32| {
                    let mut moved = inputs.clone();
                    moved[which][i] += delta;
                    loss(&moved)
                };
                let numeric = (at(5e-3) - at(-5e-3)) / 1e-2;
                let error = (numeric - f64::from(*got)).abs();
                assert!(
                    error < 2e-3 * numeric.abs().max(1.0),
                    "{which} {i}: {numeric} {got}"
                );
            }
        }
    }
}
