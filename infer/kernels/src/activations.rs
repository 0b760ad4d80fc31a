//! The right-hand side of a matrix product: f32 activations together with their int8 form.
//!
//! Quantization is per block of 32 neighbouring values of one token: `d = max|x| / 127`, `q = round(x / d)` with
//! halves to even, so `q` is in -127..=127, never -128 (which the sign tricks of some kernels rely on). A block with
//! a NaN or an infinity gets `d = NaN`, so that the result shows it.

use super::activation_tiles::{Packed, TOKENS, Tokens, room, take};
use super::table::Kernels;
use crate::pool::Pool;
use retort_format::quant::round;
use retort_format::{Error, Result};

/// Up to this many tokens, rows are multiplied as they lie; above, they share unpacked weights and are packed for it.
pub(super) const FEW: usize = 6;
/// Values per activation block.
pub(crate) const BLOCK: usize = 32;

/// Activations `[n_tokens, cols]`, quantized once and used against several matrices. Buffers are kept between calls.
#[derive(Debug, Default)]
pub struct Activations {
    n_tokens: usize,
    cols: usize,
    x: Vec<f32>,
    q: Vec<i8>,
    scales: Vec<Scale>,
    starts: Vec<Start>,
    packed: Packed,
}

/// Scale of a block of 32 and the scaled sum of its integers, `[d, d Σq]`, which minima are multiplied with.
pub(crate) type Scale = [f32; 2];

/// `-8 Σq` over a block: what a sum of products with nibbles that are 8 too large starts from.
pub(crate) type Start = i32;

/// One token's int8 activations.
#[derive(Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    /// `cols` integers.
    pub q: &'a [i8],
    /// `cols / 32` scales with sums.
    pub scales: &'a [Scale],
    /// `cols / 32` corrections for kernels that take nibbles as they are.
    pub starts: &'a [Start],
}

impl Activations {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `x`, `[n_tokens, cols]` row by row, and quantizes it (if `cols` is a multiple of 32; otherwise only
    /// float matrices can be multiplied with it).
    pub fn quantize(&mut self, x: &[f32], n_tokens: usize, cols: usize) -> Result<()> {
        self.quantize_with(super::active()?, x, n_tokens, cols)
    }

    /// [`quantize`](Self::quantize) with given kernels.
    pub fn quantize_with(
        &mut self,
        kernels: &Kernels,
        x: &[f32],
        n_tokens: usize,
        cols: usize,
    ) -> Result<()> {
        if n_tokens.checked_mul(cols) != Some(x.len()) {
            let problem = format!("{} values are not {n_tokens} tokens of {cols}", x.len());
            return Err(Error::shape("activations", problem));
        }
        self.fill(kernels, &Pool::single(), n_tokens, cols, |token, row| {
            row.copy_from_slice(&x[token * cols..(token + 1) * cols]);
        });
        Ok(())
    }

    /// The same for rows that `row` makes, `[cols]` each, on all threads of `pool`.
    pub fn fill(
        &mut self,
        kernels: &Kernels,
        pool: &Pool,
        n_tokens: usize,
        cols: usize,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        (self.n_tokens, self.cols) = (n_tokens, cols);
        let blocks = if cols.is_multiple_of(BLOCK) {
            cols / BLOCK
        } else {
            0
        };
        let rows = n_tokens * blocks;
        let x = room(&mut self.x, n_tokens * cols);
        let (q, scales) = (
            room(&mut self.q, rows * BLOCK),
            room(&mut self.scales, rows),
        );
        let starts = room(&mut self.starts, rows);
        // eight tokens at a time, which are packed together
        let parts = (x.chunks_mut((TOKENS * cols).max(1)))
            .zip(chunks(q, TOKENS * blocks * BLOCK))
            .zip(chunks(scales, TOKENS * blocks))
            .zip(chunks(starts, TOKENS * blocks))
            .zip(
                self.packed
                    .tiles(if n_tokens > FEW { blocks } else { 0 }, n_tokens),
            );
        let mut parts: Vec<_> = parts.collect();
        pool.rows(&mut parts, 1, 1, |tile, part| {
            let ((((x, q), scales), starts), packed) = &mut part[0];
            for (token, x) in x.chunks_exact_mut(cols).enumerate() {
                row(tile * TOKENS + token, x);
            }
            if blocks > 0 {
                kernels.quantize_blocks(x, q, scales, starts);
                packed.fill(q, scales);
            }
        });
    }

    /// The number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Values per token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Token `t` in f32.
    pub(crate) fn float_row(&self, t: usize) -> &[f32] {
        &self.x[t * self.cols..(t + 1) * self.cols]
    }

    /// Tokens `8 tile .. 8 tile + 8` in int8, for more than [`FEW`] tokens of a multiple of 32 columns.
    pub(crate) fn tile(&self, tile: usize) -> Tokens<'_> {
        self.packed.tile(tile)
    }

    /// Token `t` in int8; empty if `cols` is no multiple of 32.
    pub(crate) fn row(&self, t: usize) -> Row<'_> {
        if !self.cols.is_multiple_of(BLOCK) {
            return Row::default();
        }
        let blocks = self.cols / BLOCK;
        let range = t * blocks..(t + 1) * blocks;
        Row {
            q: &self.q[t * self.cols..(t + 1) * self.cols],
            scales: &self.scales[range.clone()],
            starts: &self.starts[range],
        }
    }
}

/// Chunks of a slice; empty ones without end where the size is 0.
fn chunks<T>(slice: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    let mut rest = slice;
    std::iter::from_fn(move || {
        let n = size.min(rest.len());
        Some(take(&mut rest, n))
    })
}

/// The scalar form of the quantization, written so that it vectorises where it is inlined.
#[inline(always)]
pub(super) fn quantize_blocks(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    let (q, _) = q.as_chunks_mut::<BLOCK>();
    for (((x, q), scale), start) in x.iter().zip(q).zip(scales).zip(starts) {
        let (d, integers) = round::int8(x);
        for (q, i) in q.iter_mut().zip(&integers) {
            *q = *i as i8;
        }
        let sum: i32 = integers.iter().sum();
        *start = -8 * sum;
        *scale = [d, d * sum as f32];
    }
}
