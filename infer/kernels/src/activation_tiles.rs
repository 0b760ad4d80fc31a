//! Eight tokens' int8 activations side by side, as the tile kernels read them.
//!
//! ```text
//! in   q [n_tokens, cols] i8 and scales [n_tokens, cols / 32], row by row (see `int8.rs`)
//! out  per eight tokens, the last ones filled up with zeros:
//!      q    [cols / 8][token][8 columns] i8
//!      d    [cols / 32][token] f32
//!      sums [cols / 32][3][token] i32: Σ of a block's first half, Σ of its second, and -8 Σ of both
//! ```
//!
//! Eight columns of two neighbouring tokens are the sixteen bytes that Arm's `smmla` takes; four columns of one are
//! what `sdot` takes by element and what x86-64 broadcasts to all lanes. The sums undo the offsets of kernels that
//! multiply unsigned weights: 8 for nibbles, 128 for bytes.

use crate::int8::{BLOCK, Scale};
use retort_format::quant::rows16::ROWS;

/// Tokens in a tile.
pub(crate) const TOKENS: usize = 8;

/// The products of eight tokens with sixteen rows, `[token][row]`.
pub(crate) type TileOutput = [[f32; ROWS]; TOKENS];

/// Eight tokens.
pub(crate) struct TokenTile<'a> {
    pub q: &'a [[[i8; 8]; TOKENS]],
    pub d: &'a [[f32; TOKENS]],
    pub sums: &'a [[[i32; TOKENS]; 3]],
}

impl TokenTile<'_> {
    /// Columns, if the three parts agree on them.
    pub fn cols(&self) -> Option<usize> {
        let blocks = self.d.len();
        (self.sums.len() == blocks && self.q.len() == blocks * 4).then_some(blocks * BLOCK)
    }

    /// The factor of minima for block `b` of token `t`: its scale times Σ of its integers.
    #[inline(always)]
    pub fn scaled_sum(&self, b: usize, t: usize) -> f32 {
        self.d[b][t] * (self.sums[b][0][t] + self.sums[b][1][t]) as f32
    }
}

/// Buffers of all tokens, kept between uses.
#[derive(Debug, Default)]
pub(crate) struct TokenTiles {
    blocks: usize,
    q: Vec<[[i8; 8]; TOKENS]>,
    d: Vec<[f32; TOKENS]>,
    sums: Vec<[[i32; TOKENS]; 3]>,
}

/// One tile's part of the buffers, to be filled.
pub(crate) struct TileMut<'a> {
    q: &'a mut [[[i8; 8]; TOKENS]],
    d: &'a mut [[f32; TOKENS]],
    sums: &'a mut [[[i32; TOKENS]; 3]],
}

impl TileMut<'_> {
    /// Packs up to eight tokens, `q` [tokens, 32 blocks] with `scales` [tokens, blocks].
    pub fn fill(&mut self, q: &[i8], scales: &[Scale]) {
        let blocks = self.d.len();
        for token in 0..TOKENS {
            let Some(scales) = scales.get(token * blocks..(token + 1) * blocks) else {
                self.q.iter_mut().for_each(|q| q[token] = [0; 8]);
                self.d.iter_mut().for_each(|d| d[token] = 0.0);
                (self.sums.iter_mut().flatten()).for_each(|sums| sums[token] = 0);
                continue;
            };
            let (columns, _) = q[token * blocks * BLOCK..][..blocks * BLOCK].as_chunks::<8>();
            for (to, columns) in self.q.iter_mut().zip(columns) {
                to[token] = *columns;
            }
            for (to, [scale, _]) in self.d.iter_mut().zip(scales) {
                to[token] = *scale;
            }
            for (to, block) in self.sums.iter_mut().zip(columns.as_chunks::<4>().0) {
                let sum = |half: &[[i8; 8]]| half.iter().flatten().map(|&q| i32::from(q)).sum();
                let (low, high): (i32, i32) = (sum(&block[..2]), sum(&block[2..]));
                (to[0][token], to[1][token], to[2][token]) = (low, high, -8 * (low + high));
            }
        }
    }
}

impl TokenTiles {
    /// Room for `n_tokens` of `blocks` blocks, tile by tile; empty tiles for no blocks.
    pub fn tiles(&mut self, blocks: usize, n_tokens: usize) -> impl Iterator<Item = TileMut<'_>> {
        self.blocks = blocks;
        let tiles = n_tokens.div_ceil(TOKENS);
        let mut q = grown(&mut self.q, tiles * blocks * 4);
        let mut d = grown(&mut self.d, tiles * blocks);
        let mut sums = grown(&mut self.sums, tiles * blocks);
        (0..tiles).map(move |_| TileMut {
            q: split_front(&mut q, blocks * 4),
            d: split_front(&mut d, blocks),
            sums: split_front(&mut sums, blocks),
        })
    }

    /// Tokens `8 tile .. 8 tile + 8`.
    pub fn tile(&self, tile: usize) -> TokenTile<'_> {
        let range = tile * self.blocks..(tile + 1) * self.blocks;
        TokenTile {
            q: &self.q[range.start * 4..range.end * 4],
            d: &self.d[range.clone()],
            sums: &self.sums[range],
        }
    }
}

/// The first `n` elements of a buffer that only grows, so that what is about to be written is not zeroed each time.
pub(crate) fn grown<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
    &mut buffer[..n]
}

/// The first `n` elements, which `rest` loses.
pub(crate) fn split_front<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (first, left) = std::mem::take(rest).split_at_mut(n);
    *rest = left;
    first
}
