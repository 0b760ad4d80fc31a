//! Attention composed of Burn's operations, in blocks of queries: for devices without the kernel,
//! and for queries that follow cached keys.
//!
//! The scores of all heads for all pairs of positions never exist at once in a forward pass:
//! queries go through in blocks of rows small enough that a block's scores stay below a fixed
//! size, each against the keys that it may see. Softmax's division comes after the product with
//! the values, so that one array of the size of the scores is kept for the backward pass and not
//! three.

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use super::mask::{AttentionMask, Documents};
use super::shape::AttentionShape;
use crate::fake_kv_cache as fake;
use crate::rotary::Rotary;

/// Keys and values of a layer that later queries see, `[B, K, S, E]` each; none before the first.
pub type KvCache = Option<[Tensor<4>; 2]>;

/// The RoPE tables and masks that all layers of a forward pass share.
#[derive(Debug)]
pub(super) struct ComposedAttention {
    rotary: Rotary,
    blocks: Vec<QueryBlock>,
    /// Whether keys and values are seen as an 8-bit cache holds them.
    quantize_kv: bool,
}

impl ComposedAttention {
    /// See [`AttentionBackend::new`](super::AttentionBackend::new).
    pub fn new(
        shape: AttentionShape,
        mask: AttentionMask<'_>,
        rope: (Vec<f32>, Vec<f32>),
        quantize_kv: bool,
        device: &Device,
    ) -> Self {
        let t = shape.length;
        let past = match mask {
            AttentionMask::Cached(past) => past,
            _ => 0,
        };
        let step = QueryBlock::step(t, past + t, shape.batch * shape.heads);
        Self {
            rotary: Rotary::new(rope, [t, shape.head_dim / 2], device),
            blocks: match mask {
                AttentionMask::Packed(documents) => QueryBlock::packed(documents, step, device),
                _ => QueryBlock::causal(t, past, step, quantize_kv, device),
            },
            quantize_kv,
        }
    }

    /// See [`AttentionBackend::forward`](super::AttentionBackend::forward).
    pub fn forward(
        &self,
        [q, k]: [Tensor<4>; 2],
        v: Tensor<3>,
        compute: DType,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let ([b, t, h, e], kv_heads) = (q.dims(), k.dims()[2]);
        // RoPE is in f32.
        let rotated = |x: Tensor<4>| self.rotary.apply(x.swap_dims(1, 2).cast(DType::F32));
        let q = (rotated(q) * (1.0 / (e as f64).sqrt())).cast(compute);
        let v = v.reshape([b, t, kv_heads, e]).swap_dims(1, 2);
        let mut kv = [rotated(k), v];
        if self.quantize_kv {
            kv = kv.map(fake::round_to_f16);
        }
        let mut kv = kv.map(|x| x.cast(compute));
        if let Some(cache) = cache {
            if let Some([past_k, past_v]) = cache.take() {
                let [k, v] = kv;
                kv = [(past_k, k), (past_v, v)].map(|(past, x)| Tensor::cat(vec![past, x], 2));
            }
            *cache = Some(kv.clone());
        }
        let y = attend(q, kv, &self.blocks, self.quantize_kv);
        y.swap_dims(1, 2).reshape([b, t, h * e])
    }
}

/// A block of queries against the keys it may see.
#[derive(Debug)]
pub(super) struct QueryBlock {
    rows: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    /// True where a key is masked for a query, `[1 or B, 1, rows, keys]`.
    masked: Option<Tensor<4, Bool>>,
}

/// Scores of one block: 64 MiB in f32.
const SCORES: usize = 1 << 24;
/// A block has at least this many queries, however many heads and keys there are.
const FEWEST_ROWS: usize = 16;

impl QueryBlock {
    /// Queries in a block, for `t` of them against `s` keys in `heads` heads of all rows of
    /// the batch together.
    fn step(t: usize, s: usize, heads: usize) -> usize {
        (SCORES / (heads * s).max(1)).max(FEWEST_ROWS).min(t)
    }

    /// The blocks of `t` queries that follow `past` cached positions, `step` in each. With
    /// `quantize_kv` none crosses a block of keys and values.
    fn causal(t: usize, past: usize, step: usize, quantize_kv: bool, device: &Device) -> Vec<Self> {
        // Column x of row r is masked when x > r + past + t: the blocks' masks are
        // windows of this one, each starting so that its diagonal falls on that line.
        let total = past + t;
        let wide = (t > 1).then(|| {
            let width = total + step;
            let mask: Vec<bool> = (0..step)
                .flat_map(|r| (0..width).map(move |x| x > r + total))
                .collect();
            Tensor::from_data(TensorData::new(mask, [1, 1, step, width]), device)
        });
        let ranges: Vec<_> = if quantize_kv {
            ranges(past + t, 1 << step.clamp(1, fake::BLOCK).ilog2())
                .filter(|rows| rows.end > past)
                .map(|rows| rows.start.saturating_sub(past)..rows.end - past)
                .collect()
        } else {
            ranges(t, step).collect()
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
                    masked: wide.as_ref().map(window),
                    keys: 0..end,
                    rows,
                }
            })
            .collect()
    }

    /// The blocks of packed rows, `step` queries in each. Keys before the first document
    /// that a block touches are left out.
    fn packed(documents: &Documents, step: usize, device: &Device) -> Vec<Self> {
        let [b, t] = documents.dims();
        ranges(t, step)
            .map(|rows| {
                let keys = documents.first_key(rows.start, rows.end)..rows.end;
                let mask = documents.masked(rows.start, rows.end, keys.start);
                let data = TensorData::new(mask, [b, 1, rows.len(), keys.len()]);
                Self {
                    masked: Some(Tensor::from_data(data, device)),
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

/// `softmax(q kᵀ) v` `[B, H, T, E]` under the masks of `blocks`: `q` `[B, H, T, E]` already scaled,
/// `key` and `value` `[B, K, S, E]`, all of one precision; the softmax is computed in f32. With
/// `quantize_kv` old keys and values are seen quantized.
fn attend(
    q: Tensor<4>,
    [key, value]: [Tensor<4>; 2],
    blocks: &[QueryBlock],
    quantize_kv: bool,
) -> Tensor<4> {
    let [b, h, _, e] = q.dims();
    let [_, k, s, _] = key.dims();
    let quantized = quantize_kv.then(|| fake::quantize_blocks([&key, &value], s / fake::BLOCK));
    let parts = blocks.iter().map(|block| {
        let (rows, keys) = (block.rows.len(), block.keys.len());
        let [key, value] = match &quantized {
            None => [&key, &value].map(|x| x.clone().narrow(2, block.keys.start, keys)),
            Some(quantized) => fake::visible_kv(quantized, [&key, &value], block.keys.end),
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
        let scores = scores.cast(DType::F32);
        let scores = match &block.masked {
            Some(mask) => scores.mask_fill(mask.clone(), f32::NEG_INFINITY),
            None => scores,
        };
        let largest = scores.clone().detach().max_dim(3);
        let weights = (scores - largest).exp();
        let sums = weights.clone().sum_dim(3);
        let mixed = weights
            .cast(value.dtype())
            .reshape([b, k, stacked, keys])
            .matmul(value.clone())
            .reshape([b, h, rows, e]);
        (mixed.cast(DType::F32) / sums).cast(value.dtype())
    });
    let mut parts: Vec<Tensor<4>> = parts.collect();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    Tensor::cat(parts, 2)
}

#[cfg(test)]
mod tests;
