//! The right-hand side of a matrix product: activations `[n_tokens, cols]` in f32 together with
//! their int8 form (`int8.rs`), which for many tokens is packed in tiles (`activation_tiles.rs`).

use crate::activation_tiles::{TOKENS, TokenTile, TokenTiles, grown, split_front};
use crate::int8::{BLOCK, Int8Row, Scale, Start};
use crate::kernels::Kernels;
use crate::pool::Pool;
use retort_format::{Error, Result};

/// Up to this many tokens, rows are multiplied as they lie; above, they share unpacked weights and are packed for it.
pub(crate) const FEW: usize = 6;

/// Activations `[n_tokens, cols]`, quantized once and used against several matrices. Buffers are kept between calls.
#[derive(Debug, Default)]
pub struct Activations {
    n_tokens: usize,
    cols: usize,
    x: Vec<f32>,
    q: Vec<i8>,
    scales: Vec<Scale>,
    starts: Vec<Start>,
    tiles: TokenTiles,
}

impl Activations {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `x`, `[n_tokens, cols]` row by row, and quantizes it (if `cols` is a multiple of 32; otherwise only
    /// float matrices can be multiplied with it).
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `x` does not have that many values.
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
        let whole = cols.is_multiple_of(BLOCK);
        let blocks = if whole { cols / BLOCK } else { 0 };
        let packed = if n_tokens > FEW { blocks } else { 0 };
        let rows = n_tokens * blocks;
        let x = grown(&mut self.x, n_tokens * cols);
        let q = grown(&mut self.q, rows * BLOCK);
        let scales = grown(&mut self.scales, rows);
        let starts = grown(&mut self.starts, rows);
        // eight tokens at a time, which are packed together
        let parts = (x.chunks_mut((TOKENS * cols).max(1)))
            .zip(chunks(q, TOKENS * blocks * BLOCK))
            .zip(chunks(scales, TOKENS * blocks))
            .zip(chunks(starts, TOKENS * blocks))
            .zip(self.tiles.tiles(packed, n_tokens));
        let mut parts: Vec<_> = parts.collect();
        pool.rows(&mut parts, 1, 1, |tile, part| {
            let ((((x, q), scales), starts), tile_of_eight) = &mut part[0];
            for (token, x) in x.chunks_exact_mut(cols).enumerate() {
                row(tile * TOKENS + token, x);
            }
            if blocks > 0 {
                // SAFETY: the table's features were detected; the function takes any slices.
                unsafe { (kernels.quantize_blocks)(x, q, scales, starts) };
                tile_of_eight.fill(q, scales);
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
    pub(crate) fn tile(&self, tile: usize) -> TokenTile<'_> {
        self.tiles.tile(tile)
    }

    /// Token `t` in int8; empty if `cols` is no multiple of 32.
    pub(crate) fn row(&self, t: usize) -> Int8Row<'_> {
        if !self.cols.is_multiple_of(BLOCK) {
            return Int8Row::default();
        }
        let blocks = self.cols / BLOCK;
        let range = t * blocks..(t + 1) * blocks;
        Int8Row {
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
        Some(split_front(&mut rest, n))
    })
}
