//! Fake quantization: numbers rounded to the int4 engine's formats and dequantized to f32, with a
//! gradient that passes straight through (Jacob et al., arXiv 1712.05877; Bengio et al., arXiv
//! 1308.3432).
//!
//! In: `[groups, 32, columns]`, a block being the 32 numbers of a group and column. Out: the
//! values that the engine dequantizes, bit for bit (ggml's reference rounding). A block that is
//! already quantized stays as it is. The gradient is that of the output, but 0 for numbers beyond
//! the last level: moving them moves nothing.

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Bool, DType, Int, Tensor};
use rayon::prelude::*;
use retort_format::quant::round::{self, BLOCK, Block, NEAREST_LEVELS as LEVELS};

use crate::device::fused;
use crate::flex::{filled, flex_tensor};
use crate::operation::{Apply, Operation};
use crate::simd::simd;

#[cfg(test)]
mod tests;

/// A number format with blocks of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantFormat {
    /// Weights in 4 bits: `d (q − 8)`, q from 0 to 15, d in f16, a block's largest number at q − 8 = −8.
    Q4_0,
    /// Q4_0 with the scale chosen from {max/−8, max/7, max/6} by least squared error. Idempotent on
    /// blocks whose largest weight already lies on one of these levels, such as those of a
    /// calibrated file.
    Q4_0Nearest,
    /// Weights in 8 bits: `d q`, q to ±127, d in f16.
    Q8_0,
    /// Activations in 8 bits as the engine's products take them: `d q`, q to ±127, d in f32.
    Int8,
}

/// Which 32 numbers form a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockAxis {
    /// Neighbours in the last dimension.
    Last,
    /// Neighbours in a column of a matrix.
    Down,
}

/// `x` rounded to `format` in blocks along `axis`, in the precision of `x`.
///
/// # Panics
/// 32 does not divide the dimension.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    format: QuantFormat,
    axis: BlockAxis,
) -> Tensor<D> {
    let shape = x.dims();
    let columns = match axis {
        BlockAxis::Last => 1,
        BlockAxis::Down => shape[D - 1],
    };
    if fused(&x) {
        let operation = FakeQuantize { format, columns };
        return Tensor::from_dispatch(Dispatch::unary(operation, x.into_dispatch()));
    }
    let (n, dtype) = (shape.iter().product::<usize>(), x.dtype());
    let blocks = [n / (BLOCK * columns), BLOCK, columns];
    let x = x.cast(DType::F32).reshape(blocks);
    composed(x, format).reshape(shape).cast(dtype)
}

/// The same composed of Burn's operations: `x` `[groups, 32, columns]` in f32.
fn composed(x: Tensor<3>, format: QuantFormat) -> Tensor<3> {
    let values = x.clone().detach();
    let size = values.clone().abs();
    let most = size.clone().max_dim(1);
    let inverse = |d: Tensor<3>, none: Tensor<3, Bool>| d.recip().mask_fill(none, 0.0);
    let half = |d: Tensor<3>| d.cast(DType::F16).cast(DType::F32);
    let straight = x - values.clone();
    match format {
        QuantFormat::Q4_0 | QuantFormat::Q4_0Nearest => {
            // The first of the largest, by what stands before it.
            let places = Tensor::<1, Int>::arange(0..BLOCK as i64, &values.device());
            let places = (places.float() - BLOCK as f32).neg().reshape([1, BLOCK, 1]);
            let places = size.equal(most.expand(values.dims())).float() * places;
            let first = places
                .clone()
                .equal(places.max_dim(1).expand(values.dims()));
            let largest = (values.clone() * first.float()).sum_dim(1);
            let at = |level: f32| {
                let d = largest.clone() / level;
                let place = values.clone() * inverse(d.clone(), d.clone().equal_elem(0.0)) + 8.5;
                let inside = place.clone().lower_elem(16.0).float();
                ((place.floor().clamp_max(15.0) - 8.0) * half(d), inside)
            };
            let error = |y: &Tensor<3>| (values.clone() - y.clone()).square().sum_dim(1);
            let (mut y, mut inside) = at(LEVELS[0]);
            if format == QuantFormat::Q4_0Nearest {
                let mut least = error(&y);
                for level in &LEVELS[1..] {
                    let (other, all) = at(*level);
                    let its = error(&other);
                    let better = its.clone().lower(least.clone());
                    least = least.mask_where(better.clone(), its);
                    let better = better.expand(values.dims());
                    y = y.mask_where(better.clone(), other);
                    inside = inside.mask_where(better, all);
                }
            }
            y + straight * inside
        }
        QuantFormat::Q8_0 => {
            let d = most / 127.0;
            let size = size * inverse(d.clone(), d.clone().equal_elem(0.0));
            // Halves away from zero.
            let whole = size.clone().trunc();
            let q = whole.clone() + (size - whole).greater_equal_elem(0.5).float();
            q * values.sign() * half(d) + straight
        }
        QuantFormat::Int8 => {
            let d = most / 127.0;
            let none = d.clone().lower_elem(f32::MIN_POSITIVE);
            (values * inverse(d.clone(), none)).round() * d + straight
        }
    }
}

#[derive(Debug)]
struct FakeQuantize {
    format: QuantFormat,
    columns: usize,
}

impl Operation<1> for FakeQuantize {
    /// The input, where its gradient may be clipped.
    type Saved = Option<FlexTensor>;

    fn forward(&self, [x]: [FlexTensor; 1], _: bool) -> (FlexTensor, Self::Saved) {
        let saved = self.format.clips().then(|| x.clone());
        let x = x.to_contiguous();
        let y = filled(&x, |y| forward(self.format, x.storage(), self.columns, y));
        (y, saved)
    }

    fn backward(
        &self,
        saved: Self::Saved,
        dy: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let Some(x) = saved else {
            return [Some(dy)];
        };
        let x = x.to_contiguous();
        let mut dx = dy.to_contiguous().storage::<f32>().to_vec();
        backward(self.format, x.storage(), self.columns, &mut dx);
        [Some(flex_tensor(dx, x.shape()))]
    }
}

impl QuantFormat {
    /// Whether the largest numbers of a block may lie beyond the last level.
    fn clips(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_0Nearest)
    }

    /// The scale of a block in a format that clips, not yet in f16.
    #[inline(always)]
    fn q4_scale(self, x: &Block) -> f32 {
        let largest = round::largest(x);
        match self {
            Self::Q4_0Nearest => round::nearest_q4_scale(x, largest),
            _ => largest / -8.0,
        }
    }

    /// Fills `y` with the dequantized values of `x`.
    #[inline(always)]
    fn round(self, x: &Block, y: &mut Block) {
        let (d, q) = match self {
            Self::Q4_0 | Self::Q4_0Nearest => {
                let d = self.q4_scale(x);
                (round::half(d), round::q4_0(x, d).map(|q| q - 8))
            }
            Self::Q8_0 => {
                let (d, q) = round::q8_0(x);
                (round::half(d), q)
            }
            Self::Int8 => round::int8(x),
        };
        for (y, q) in y.iter_mut().zip(q) {
            *y = d * q as f32;
        }
    }

    /// Zeroes the gradient of the numbers of `x` that lie beyond the last level.
    #[inline(always)]
    fn clip(self, x: &Block, gradient: &mut Block) {
        let inverse = round::inverse(self.q4_scale(x));
        for (g, w) in gradient.iter_mut().zip(x) {
            *g = if round::within_q4_0(*w, inverse) {
                *g
            } else {
                0.0
            };
        }
    }
}

/// Fills `y` with the dequantized values of `x`, both `[groups, 32, columns]`.
fn forward(format: QuantFormat, x: &[f32], columns: usize, y: &mut [f32]) {
    each_block(x, columns, y, |x, y| format.round(x, y));
}

/// Turns the `gradient` of the output into that of `x`, both `[groups, 32, columns]`.
fn backward(format: QuantFormat, x: &[f32], columns: usize, gradient: &mut [f32]) {
    if format.clips() {
        each_block(x, columns, gradient, |x, gradient| format.clip(x, gradient));
    }
}

/// Calls `f` with every block of `x` and of `out`, on all cores.
fn each_block(x: &[f32], columns: usize, out: &mut [f32], f: impl Fn(&Block, &mut Block) + Sync) {
    /// Blocks that one task does where they lie one after another.
    const PART: usize = 512;
    /// Columns that are laid straight together.
    const TILE: usize = 16;
    if columns == 1 {
        let parts = out
            .par_chunks_mut(PART * BLOCK)
            .zip(x.par_chunks(PART * BLOCK));
        return parts.for_each(|(out, x)| {
            simd!({
                let (x, _) = x.as_chunks::<BLOCK>();
                let (out, _) = out.as_chunks_mut::<BLOCK>();
                for (x, out) in x.iter().zip(out) {
                    f(x, out);
                }
            })
        });
    }
    let size = BLOCK * columns.max(1);
    let groups = out.par_chunks_exact_mut(size).zip(x.par_chunks_exact(size));
    groups.for_each(|(out, x)| {
        simd!({
            let mut blocks = [([0f32; BLOCK], [0f32; BLOCK]); TILE];
            for first in (0..columns).step_by(TILE) {
                let width = TILE.min(columns - first);
                let at = |row: usize| row * columns + first..row * columns + first + width;
                for row in 0..BLOCK {
                    let both = x[at(row)].iter().zip(&out[at(row)]);
                    for (block, (x, out)) in blocks.iter_mut().zip(both) {
                        (block.0[row], block.1[row]) = (*x, *out);
                    }
                }
                for (x, out) in &mut blocks[..width] {
                    f(x, out);
                }
                for row in 0..BLOCK {
                    for (out, block) in out[at(row)].iter_mut().zip(&blocks) {
                        *out = block.1[row];
                    }
                }
            }
        })
    });
}
