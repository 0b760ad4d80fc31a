//! Numbers put onto the grids of the int4 engine's formats, still as f32, and the gradient that
//! goes straight through (Jacob et al., arXiv 1712.05877; Bengio et al., arXiv 1308.3432).
//!
//! In: `[groups, 32, columns]`, a block being the 32 numbers of a group and column. Out: what the
//! engine would read back of each block, bit for bit. The rounding is ggml's reference, which
//! `retort-infer` follows; a block that is on its grid stays as it is. The gradient is the output's
//! own, but for numbers beyond the end of the grid, which get none: moving them moves nothing.

use half::f16;
use rayon::prelude::*;

use super::vector::simd;

/// Numbers that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Where the largest number of a block may lie with [`Grid::Q4_0Nearest`], the first first. A block that was
/// rounded to 4 bits has it there but for the rare one that uses less than its levels; −7 is 7 with the scale's
/// sign turned.
pub(super) const LEVELS: [f32; 3] = [-8.0, 7.0, 6.0];

/// A format, as far as values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// Weights in 4 bits: `d (q − 8)`, q from 0 to 15, d in f16, a block's largest number at q − 8 = −8.
    Q4_0,
    /// The same with the largest number at −8, 7 or 6, by which the squared error is least: a block that
    /// was rounded with a scale that somebody searched stays as it is if it has its largest there.
    Q4_0Nearest,
    /// Weights in 8 bits: `d q`, q to ±127, d in f16.
    Q8_0,
    /// Activations in 8 bits as the engine's products take them: `d q`, q to ±127, d in f32.
    Int8,
}

type Block = [f32; BLOCK];

impl Grid {
    /// Whether a grid ends before the largest number of a block.
    pub fn clips(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_0Nearest)
    }

    /// Fills `y` with the values on the grid of `x`.
    #[inline(always)]
    fn round(self, x: &Block, y: &mut Block) {
        let magnitude = x.iter().fold(0f32, |most, w| most.max(w.abs()));
        match self {
            Self::Q4_0 => round_q4_0(x, largest(x, magnitude) / -8.0, y),
            Self::Q4_0Nearest => round_q4_0(x, nearest_scale(x, largest(x, magnitude)), y),
            Self::Q8_0 => {
                let d = magnitude / 127.0;
                let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
                let d = f16::from_f32(d).to_f32();
                for (y, w) in y.iter_mut().zip(x) {
                    // An integer's zero has no sign.
                    *y = d * (w * inverse).round() as i32 as f32;
                }
            }
            Self::Int8 => {
                // Adding and taking away 1.5 · 2²³ rounds to the nearest integer, halves to even.
                const ROUND: f32 = 12_582_912.0;
                let d = magnitude / 127.0;
                let inverse = if d >= f32::MIN_POSITIVE { 1.0 / d } else { 0.0 };
                for (y, w) in y.iter_mut().zip(x) {
                    *y = d * ((w * inverse + ROUND) - ROUND);
                }
            }
        }
    }

    /// Takes the gradient from those numbers of `x` that lie beyond the end of the grid.
    #[inline(always)]
    fn clip(self, x: &Block, gradient: &mut Block) {
        let magnitude = x.iter().fold(0f32, |most, w| most.max(w.abs()));
        let largest = largest(x, magnitude);
        let inverse = inverse_of(match self {
            Self::Q4_0Nearest => nearest_scale(x, largest),
            _ => largest / -8.0,
        });
        for (g, w) in gradient.iter_mut().zip(x) {
            *g = if w * inverse + 8.5 < 16.0 { *g } else { 0.0 };
        }
    }
}

/// The number of a block whose magnitude is `magnitude`, the largest; of several the first.
#[inline(always)]
fn largest(x: &Block, magnitude: f32) -> f32 {
    x.iter()
        .rev()
        .fold(0f32, |found, &w| match w.abs() == magnitude {
            true => w,
            false => found,
        })
}

#[inline(always)]
fn inverse_of(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// Fills `y` with the values on the grid of Q4_0 with the scale `d`, not yet in f16.
#[inline(always)]
fn round_q4_0(x: &Block, d: f32, y: &mut Block) {
    let inverse = inverse_of(d);
    let d = f16::from_f32(d).to_f32();
    for (y, w) in y.iter_mut().zip(x) {
        let q = ((w * inverse + 8.5) as i32).min(15);
        *y = d * (q - 8) as f32;
    }
}

/// Of the scales that put `largest` on one of [`LEVELS`], the one with the least squared error.
#[inline(always)]
fn nearest_scale(x: &Block, largest: f32) -> f32 {
    let (mut best, mut least) = (0.0, f32::INFINITY);
    for level in LEVELS {
        let d = largest / level;
        let mut y = [0.0; BLOCK];
        round_q4_0(x, d, &mut y);
        let mut lanes = [0f32; 8];
        for i in 0..BLOCK {
            lanes[i % 8] += (x[i] - y[i]) * (x[i] - y[i]);
        }
        let error = lanes.iter().sum();
        if error < least {
            (best, least) = (d, error);
        }
    }
    best
}

/// Fills `y` with the values on `grid` of `x`, both `[groups, 32, columns]`.
pub(crate) fn forward(grid: Grid, x: &[f32], columns: usize, y: &mut [f32]) {
    each_block(x, columns, y, |x, y| grid.round(x, y));
}

/// Turns `gradient`, the output's, into that of `x`, both `[groups, 32, columns]`.
pub(crate) fn backward(grid: Grid, x: &[f32], columns: usize, gradient: &mut [f32]) {
    if grid.clips() {
        each_block(x, columns, gradient, |x, gradient| grid.clip(x, gradient));
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
            simd(
                #[inline(always)]
                || {
                    let (x, _) = x.as_chunks::<BLOCK>();
                    let (out, _) = out.as_chunks_mut::<BLOCK>();
                    for (x, out) in x.iter().zip(out) {
                        f(x, out);
                    }
                },
            )
        });
    }
    let size = BLOCK * columns.max(1);
    let groups = out.par_chunks_exact_mut(size).zip(x.par_chunks_exact(size));
    groups.for_each(|(out, x)| {
        simd(
            #[inline(always)]
            || {
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
            },
        )
    });
}
