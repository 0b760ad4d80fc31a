//! Attention's sizes, and for burn-flex's kernel the tables of RoPE and
//! the mask.

use std::ops::Range;

use crate::fake_kv_cache::{BLOCK, KvView};
use crate::simd::simd;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// B.
    pub batch: usize,
    /// T, the queries of a row.
    pub length: usize,
    /// H, the query heads.
    pub heads: usize,
    /// K, the key/value heads.
    pub kv_heads: usize,
    /// E.
    pub head_dim: usize,
}

/// Causal attention without a cache, as the kernel computes it.
#[derive(Debug)]
pub struct CausalAttention {
    pub(super) shape: AttentionShape,
    /// Cosines of the RoPE angles, `[1 or B, T, E/2]`.
    pub(super) cos: Vec<f32>,
    /// Their sines.
    pub(super) sin: Vec<f32>,
    /// The first key that each query sees, `[B, T]`; all see from the first where absent.
    pub(super) starts: Option<Vec<usize>>,
    /// Whether keys and values are seen as an 8-bit cache holds them.
    pub(super) quantize_kv: bool,
}

/// Queries of a head in a tile, if the heads are not grouped.
const TILE: usize = 64;
/// At least this many, however many heads share a key head.
const FEWEST: usize = 16;

impl CausalAttention {
    /// G, the query heads of a key/value head.
    pub(super) fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Queries of a head in a tile.
    pub(super) fn step(&self) -> usize {
        let step = (TILE / self.group()).max(FEWEST);
        // A tile must not cross the end of a block, where the keys that are quantized change.
        let step = match (self.quantize_kv, step < BLOCK) {
            (false, _) => step,
            (true, true) => FEWEST,
            (true, false) => BLOCK,
        };
        step.min(self.shape.length.max(1))
    }

    /// The factor of the scores, 1 / √E.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }

    /// The first key that the query at `t` of row `b` sees.
    pub(super) fn start(&self, b: usize, t: usize) -> usize {
        let start = |starts: &Vec<usize>| starts[b * self.shape.length + t].min(t);
        self.starts.as_ref().map_or(0, start)
    }

    /// The keys that any query of `rows` sees.
    pub(super) fn keys(&self, b: usize, rows: &Range<usize>) -> Range<usize> {
        let first = rows.clone().map(|t| self.start(b, t)).min().unwrap_or(0);
        first..rows.end
    }

    /// Cosines and sines at position `t` of row `b`.
    #[inline(always)]
    fn angles(&self, b: usize, t: usize) -> (&[f32], &[f32]) {
        let half = self.shape.head_dim / 2;
        let rows = (self.cos.len() / (self.shape.length * half).max(1)).max(1);
        let at = ((b % rows) * self.shape.length + t) * half;
        (&self.cos[at..at + half], &self.sin[at..at + half])
    }

    /// `to = scale · (x rotated by its position)`.
    #[inline(always)]
    pub(super) fn rotate(&self, at: (usize, usize), x: &[f32], scale: f32, to: &mut [f32]) {
        self.rotate_by::<false>(at, x, scale, to);
    }

    /// `to = scale · (x rotated back)`: the gradient of [`rotate`](Self::rotate).
    #[inline(always)]
    pub(super) fn rotate_back(&self, at: (usize, usize), x: &[f32], scale: f32, to: &mut [f32]) {
        self.rotate_by::<true>(at, x, scale, to);
    }

    #[inline(always)]
    fn rotate_by<const BACK: bool>(
        &self,
        (b, t): (usize, usize),
        x: &[f32],
        scale: f32,
        to: &mut [f32],
    ) {
        let (cos, sin) = self.angles(b, t);
        let half = cos.len();
        let (a, b) = (&x[..half], &x[half..2 * half]);
        let (low, high) = to.split_at_mut(half);
        let (low, high) = (&mut low[..half], &mut high[..half]);
        for i in 0..half {
            let sin = if BACK { -sin[i] } else { sin[i] };
            low[i] = (a[i] * cos[i] - b[i] * sin) * scale;
            high[i] = (b[i] * cos[i] + a[i] * sin) * scale;
        }
    }

    /// Where head `head` of `heads` stands in row `t` of batch row `b`.
    pub(super) fn at(&self, b: usize, t: usize, head: usize, heads: usize) -> Range<usize> {
        let first = ((b * self.shape.length + t) * heads + head) * self.shape.head_dim;
        first..first + self.shape.head_dim
    }

    /// All keys of one head, rotated, `[T, E]`.
    fn rotated_keys(&self, b: usize, head: usize, keys: &[f32]) -> Vec<f32> {
        let mut rotated = vec![0f32; self.shape.length * self.shape.head_dim];
        simd!({
            for (t, to) in rotated.chunks_exact_mut(self.shape.head_dim).enumerate() {
                let key = &keys[self.at(b, t, head, self.shape.kv_heads)];
                self.rotate((b, t), key, 1.0, to);
            }
        });
        rotated
    }

    /// One head's keys and values out of `keys` and `values` `[B, T, K·E]`.
    pub(super) fn kv_view<'a>(
        &self,
        b: usize,
        head: usize,
        keys: &[f32],
        values: &'a [f32],
    ) -> KvView<'a> {
        let rotated = self.rotated_keys(b, head, keys);
        let values = &values[self.at(b, 0, head, self.shape.kv_heads).start..];
        let stride = self.shape.kv_heads * self.shape.head_dim;
        if self.quantize_kv {
            KvView::quantized(rotated, values, stride, self.shape.head_dim)
        } else {
            KvView::exact(rotated, values, stride, self.shape.head_dim)
        }
    }
}
