//! Keys and values as a cache holds them: as they are, or rounded as the engine's cache of 8 bits
//! rounds them (`retort-edge --kv-cache q8`; KIVI, arXiv 2402.02750), still as f32.
//!
//! In: a head's turned keys and its values, `[T, E]`. Out: the same as the query at t finds them.
//! Where they are rounded, all are in f16, and of the blocks of 32 positions those that end 32 and
//! more before the block of t are `d q + m`, q from 0 to 255, d and m in f16: keys by channel over
//! the 32 positions, values by position over 32 channels. Gradients go straight through.
//!
//! `T` positions, `E` head_dim.

use burn::tensor::{DType, Tensor};
use half::f16;

use super::product::View;
use super::vector::simd;
use crate::linear::to;

/// Positions in a block, and channels of a value that share a scale.
pub(crate) const BLOCK: usize = 32;
/// The largest integer.
const LEVELS: f32 = 255.0;

/// See the module.
pub(super) struct Held<'a> {
    keys: Vec<f32>,
    values: Values<'a>,
    head_dim: usize,
    /// Blocks that are on their grids.
    rounded: usize,
}

enum Values<'a> {
    /// Rows of so many numbers, the head's among them first.
    Plain(&'a [f32], usize),
    Rounded(Vec<f32>),
}

impl<'a> Held<'a> {
    /// `keys` `[T, E]`, and `values` whose rows are `stride` apart.
    pub fn plain(keys: Vec<f32>, values: &'a [f32], stride: usize, head_dim: usize) -> Self {
        Self {
            keys,
            values: Values::Plain(values, stride),
            head_dim,
            rounded: 0,
        }
    }

    /// The same, rounded.
    pub fn rounded(mut keys: Vec<f32>, values: &[f32], stride: usize, head_dim: usize) -> Self {
        let half = |x: f32| f16::from_f32(x).to_f32();
        keys.iter_mut().for_each(|x| *x = half(*x));
        let rows = values.chunks(stride).take(keys.len() / head_dim.max(1));
        let values = rows.flat_map(|row| row[..head_dim].iter().map(|x| half(*x)));
        Self {
            keys,
            values: Values::Rounded(values.collect()),
            head_dim,
            rounded: 0,
        }
    }

    /// Makes them what the queries at `t` and later in its block find. `t` does not fall from call to
    /// call.
    pub fn reach(&mut self, t: usize) {
        let Values::Rounded(values) = &mut self.values else {
            return;
        };
        let blocks = (t / BLOCK).saturating_sub(1);
        let size = BLOCK * self.head_dim;
        for block in self.rounded..blocks {
            let at = block * size..(block + 1) * size;
            simd(
                #[inline(always)]
                || {
                    round_keys(&mut self.keys[at.clone()], self.head_dim);
                    for row in values[at].chunks_exact_mut(self.head_dim) {
                        row.chunks_mut(BLOCK).for_each(round);
                    }
                },
            );
        }
        self.rounded = self.rounded.max(blocks);
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
            Values::Plain(x, stride) => View::strided(&x[range.start * stride..], n, e, *stride),
            Values::Rounded(x) => View::new(&x[range.start * e..], n, e),
        }
    }
}

/// Puts each column of `keys` `[32, E]` on a grid of its own.
#[inline(always)]
fn round_keys(keys: &mut [f32], e: usize) {
    for channel in 0..e {
        let mut column: [f32; BLOCK] = std::array::from_fn(|i| keys[i * e + channel]);
        round(&mut column);
        (0..BLOCK).for_each(|i| keys[i * e + channel] = column[i]);
    }
}

/// Puts numbers on one grid from the least of them to the largest.
#[inline(always)]
fn round(x: &mut [f32]) {
    let least = x.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let m = f16::from_f32(least).to_f32();
    let d = f16::from_f32((largest - m).max(0.0) / LEVELS).to_f32();
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    for x in x {
        let q = ((*x - m) * inverse).round().clamp(0.0, LEVELS);
        *x = d * q + m;
    }
}

/// Keys and values `[B, K, S, E]` in f16's numbers.
pub(crate) fn halves(x: Tensor<4>) -> Tensor<4> {
    let held = to(x.clone().detach(), DType::F32);
    let rounded = held.clone().cast(DType::F16).cast(DType::F32);
    to(x, DType::F32) + (rounded - held)
}

/// The first `blocks` blocks of keys and values `[B, K, S, E]` on their grids, composed of Burn's
/// operations.
pub(super) fn composed([keys, values]: [&Tensor<4>; 2], blocks: usize) -> [Tensor<4>; 2] {
    let [b, k, _, e] = keys.dims();
    let n = blocks * BLOCK;
    let front = |x: &Tensor<4>| x.clone().narrow(2, 0, n);
    if n == 0 {
        return [keys.clone(), values.clone()];
    }
    let by_channel = on_grid(front(keys).reshape([b * k * blocks, BLOCK, e]));
    let by_position = (0..e).step_by(BLOCK).map(|first| {
        let width = BLOCK.min(e - first);
        let part = front(values).narrow(3, first, width);
        on_grid(part.reshape([b * k * n, width, 1])).reshape([b, k, n, width])
    });
    let by_position = Tensor::cat(by_position.collect(), 3);
    [by_channel.reshape([b, k, n, e]), by_position]
}

/// What the queries of the block that ends, or is cut off, at key `end` find of `all` keys and values up to there, whose
/// whole blocks are `on_grids` too.
pub(super) fn found(on_grids: &[Tensor<4>; 2], all: [&Tensor<4>; 2], end: usize) -> [Tensor<4>; 2] {
    let n = ((end.max(1) - 1) / BLOCK).saturating_sub(1) * BLOCK;
    let near = all.map(|x| x.clone().narrow(2, n, end - n));
    if n == 0 {
        return near;
    }
    let [keys, values] = near;
    let far = |i: usize| on_grids[i].clone().narrow(2, 0, n);
    [
        Tensor::cat(vec![far(0), keys], 2),
        Tensor::cat(vec![far(1), values], 2),
    ]
}

/// `x` `[groups, numbers, columns]`, the numbers of a group and column on one grid.
fn on_grid(x: Tensor<3>) -> Tensor<3> {
    let dtype = x.dtype();
    let x = to(x, DType::F32);
    let half = |x: Tensor<3>| x.cast(DType::F16).cast(DType::F32);
    let held = x.clone().detach();
    let m = half(held.clone().min_dim(1));
    let d = half((held.clone().max_dim(1) - m.clone()).clamp_min(0.0) / LEVELS);
    let none = d.clone().equal_elem(0.0);
    let level = (held.clone() - m.clone()) * d.clone().recip().mask_fill(none, 0.0);
    // Halves away from zero, and no number of levels is far below it.
    let whole = level.clone().floor();
    let q = whole.clone() + (level - whole).greater_equal_elem(0.5).float();
    to(x + (q.clamp(0.0, LEVELS) * d + m - held), dtype)
}
