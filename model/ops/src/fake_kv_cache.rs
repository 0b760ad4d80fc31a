//! The keys and values that attention sees in training: as they are, or as the engine's 8-bit
//! KV cache holds them (`retort-edge --kv-cache q8`; KIVI, arXiv 2402.02750), still in f32.
//!
//! Query t sees K and V as follows where they are quantized: the last 32 to 63 positions in f16,
//! older blocks of 32 positions dequantized from u8, `d q + m` with d and m in f16. Keys have one
//! scale per channel over the block's 32 positions, values one per position over 32 channels.
//! Gradients pass straight through.
//!
//! T positions, E head_dim.

use burn::tensor::{DType, Tensor};
use retort_format::quant::round;

use crate::matmul::View;
use crate::simd::simd;

/// Positions in a block, and channels of a value that share a scale.
pub(crate) const BLOCK: usize = round::BLOCK;
/// The largest integer.
const LEVELS: f32 = 255.0;

/// One head's keys and values as a query sees them.
pub(crate) struct KvView<'a> {
    keys: Vec<f32>,
    values: Values<'a>,
    head_dim: usize,
    /// Blocks that are quantized.
    quantized: usize,
}

enum Values<'a> {
    /// Rows this far apart, of which the head's numbers come first.
    Borrowed(&'a [f32], usize),
    Quantized(Vec<f32>),
}

impl<'a> KvView<'a> {
    /// `keys` `[T, E]`, and `values` whose rows are `stride` apart, as they are.
    pub fn exact(keys: Vec<f32>, values: &'a [f32], stride: usize, head_dim: usize) -> Self {
        Self {
            keys,
            values: Values::Borrowed(values, stride),
            head_dim,
            quantized: 0,
        }
    }

    /// The same in f16, to be quantized block by block.
    pub fn quantized(mut keys: Vec<f32>, values: &[f32], stride: usize, head_dim: usize) -> Self {
        keys.iter_mut().for_each(|x| *x = round::half(*x));
        let rows = values.chunks(stride).take(keys.len() / head_dim.max(1));
        let values = rows.flat_map(|row| row[..head_dim].iter().map(|x| round::half(*x)));
        Self {
            keys,
            values: Values::Quantized(values.collect()),
            head_dim,
            quantized: 0,
        }
    }

    /// Quantizes the blocks that the queries at `t` and later in its block see quantized. `t` must
    /// not fall from call to call.
    pub fn advance(&mut self, t: usize) {
        let Values::Quantized(values) = &mut self.values else {
            return;
        };
        let blocks = (t / BLOCK).saturating_sub(1);
        let size = BLOCK * self.head_dim;
        for block in self.quantized..blocks {
            let at = block * size..(block + 1) * size;
            simd!({
                quantize_columns(&mut self.keys[at.clone()], self.head_dim);
                for row in values[at].chunks_exact_mut(self.head_dim) {
                    row.chunks_mut(BLOCK).for_each(quantize_block);
                }
            });
        }
        self.quantized = self.quantized.max(blocks);
    }

    /// Keys `range`, `[range, E]`.
    pub fn keys(&self, range: &std::ops::Range<usize>) -> View<'_> {
        let first = range.start * self.head_dim;
        View::new(&self.keys[first..], range.len(), self.head_dim)
    }

    /// Values `range`, `[range, E]`.
    pub fn values(&self, range: &std::ops::Range<usize>) -> View<'_> {
        let (n, e) = (range.len(), self.head_dim);
        match &self.values {
            Values::Borrowed(x, stride) => View::strided(&x[range.start * stride..], n, e, *stride),
            Values::Quantized(x) => View::new(&x[range.start * e..], n, e),
        }
    }
}

/// Quantizes each column of `keys` `[32, E]` with a scale of its own.
#[inline(always)]
fn quantize_columns(keys: &mut [f32], e: usize) {
    for channel in 0..e {
        let mut column: [f32; BLOCK] = std::array::from_fn(|i| keys[i * e + channel]);
        quantize_block(&mut column);
        (0..BLOCK).for_each(|i| keys[i * e + channel] = column[i]);
    }
}

/// Quantizes up to 32 numbers with one scale, from the least of them to the largest.
#[inline(always)]
fn quantize_block(x: &mut [f32]) {
    // A short block repeats its first number, which leaves its range as it is.
    let mut block = [x[0]; BLOCK];
    block[..x.len()].copy_from_slice(x);
    let (d, m, q) = round::affine(&block, LEVELS);
    let (d, m) = (d.to_f32(), m.to_f32());
    for (x, q) in x.iter_mut().zip(q) {
        *x = d * q + m;
    }
}

/// Keys or values `[B, K, S, E]` rounded to f16, in f32, composed of Burn's operations.
pub(crate) fn round_to_f16(x: Tensor<4>) -> Tensor<4> {
    let values = x.clone().detach().cast(DType::F32);
    let rounded = values.clone().cast(DType::F16).cast(DType::F32);
    x.cast(DType::F32) + (rounded - values)
}

/// The first `blocks` blocks of keys and values `[B, K, S, E]` quantized, composed of Burn's
/// operations.
pub(crate) fn quantize_blocks([keys, values]: [&Tensor<4>; 2], blocks: usize) -> [Tensor<4>; 2] {
    let [b, k, _, e] = keys.dims();
    let n = blocks * BLOCK;
    let front = |x: &Tensor<4>| x.clone().narrow(2, 0, n);
    if n == 0 {
        return [keys.clone(), values.clone()];
    }
    let by_channel = quantize(front(keys).reshape([b * k * blocks, BLOCK, e]));
    let by_position = (0..e).step_by(BLOCK).map(|first| {
        let width = BLOCK.min(e - first);
        let part = front(values).narrow(3, first, width);
        quantize(part.reshape([b * k * n, width, 1])).reshape([b, k, n, width])
    });
    let by_position = Tensor::cat(by_position.collect(), 3);
    [by_channel.reshape([b, k, n, e]), by_position]
}

/// Keys and values `[B, K, end, E]` as the queries of the block that ends, or is cut off, at key
/// `end` see them: `exact` where they are near, and where they are far those of [`quantize_blocks`].
pub(crate) fn visible_kv(
    quantized: &[Tensor<4>; 2],
    exact: [&Tensor<4>; 2],
    end: usize,
) -> [Tensor<4>; 2] {
    let n = ((end.max(1) - 1) / BLOCK).saturating_sub(1) * BLOCK;
    let near = exact.map(|x| x.clone().narrow(2, n, end - n));
    if n == 0 {
        return near;
    }
    let [keys, values] = near;
    let far = |i: usize| quantized[i].clone().narrow(2, 0, n);
    [
        Tensor::cat(vec![far(0), keys], 2),
        Tensor::cat(vec![far(1), values], 2),
    ]
}

/// `x` `[groups, numbers, columns]` quantized, the numbers of a group and column with one scale.
fn quantize(x: Tensor<3>) -> Tensor<3> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let half = |x: Tensor<3>| x.cast(DType::F16).cast(DType::F32);
    let values = x.clone().detach();
    let m = half(values.clone().min_dim(1));
    let d = half((values.clone().max_dim(1) - m.clone()).clamp_min(0.0) / LEVELS);
    let none = d.clone().equal_elem(0.0);
    let level = (values.clone() - m.clone()) * d.clone().recip().mask_fill(none, 0.0);
    // Halves round away from zero; no level is far below zero.
    let whole = level.clone().floor();
    let q = whole.clone() + (level - whole).greater_equal_elem(0.5).float();
    (x + (q.clamp(0.0, LEVELS) * d + m - values)).cast(dtype)
}
