//! Keys and values of the positions seen so far, and attention over them.
//!
//! For every layer and key head one contiguous [positions, head_dim] of f32, so that attention
//! walks memory straight ahead. Room for the whole context is reserved at once, but touched only
//! as positions come.

use rayon::prelude::*;

use super::config::Config;
use crate::kernels::ops;
use crate::{Error, Result};

/// The keys and values of one sequence.
#[derive(Debug)]
pub(super) struct Cache {
    /// Per layer and key head: [positions, head_dim].
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

impl Cache {
    /// Room for `context` positions.
    pub(super) fn new(config: &Config, context: usize) -> Result<Self> {
        let too_large = || {
            let problem = format!("a context of {context} positions does not fit in memory");
            Error::Argument(format!("{problem}; choose a smaller one"))
        };
        config.kv_cache_bytes(context).ok_or_else(too_large)?;
        let reserve = || -> Result<Vec<Vec<f32>>> {
            let heads = 0..config.n_layers * config.n_kv_heads;
            let one = |_| {
                let mut head = Vec::new();
                head.try_reserve_exact(context * config.head_dim)
                    .map_err(|_| too_large())?;
                Ok(head)
            };
            heads.map(one).collect()
        };
        Ok(Self {
            keys: reserve()?,
            values: reserve()?,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        })
    }

    /// Forgets every position from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        for head in self.keys.iter_mut().chain(&mut self.values) {
            head.truncate(len * self.head_dim);
        }
    }

    /// Adds the keys and values [n_tokens, n_kv_heads, head_dim] of the next positions.
    pub(super) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let heads = layer * self.n_kv_heads..(layer + 1) * self.n_kv_heads;
        let append = |cache: &mut [Vec<f32>], new: &[f32]| {
            for row in new.chunks_exact(self.n_kv_heads * self.head_dim) {
                for (head, part) in cache.iter_mut().zip(row.chunks_exact(self.head_dim)) {
                    head.extend_from_slice(part);
                }
            }
        };
        append(&mut self.keys[heads.clone()], keys);
        append(&mut self.values[heads], values);
    }

    /// Causal attention of the queries `q` [n_tokens, n_heads, head_dim], the last positions
    /// appended to `layer`, into `out` of the same shape. Parallel over tokens and heads.
    pub(super) fn attend(&self, layer: usize, q: &[f32], out: &mut [f32]) {
        let (n_heads, head_dim) = (self.n_heads, self.head_dim);
        let first_head = layer * self.n_kv_heads;
        let group = n_heads / self.n_kv_heads;
        let n_tokens = q.len() / (n_heads * head_dim);
        let before = self.keys[first_head].len() / head_dim - n_tokens;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let heads = out
            .par_chunks_exact_mut(head_dim)
            .zip(q.par_chunks_exact(head_dim));
        heads
            .enumerate()
            .for_each_init(Vec::new, |scores, (index, (out, q))| {
                let head = first_head + index % n_heads / group;
                let seen = (before + index / n_heads + 1) * head_dim;
                let keys = self.keys[head][..seen].chunks_exact(head_dim);
                let values = self.values[head][..seen].chunks_exact(head_dim);
                scores.clear();
                scores.extend(keys.map(|key| ops::dot(q, key) * scale));
                ops::softmax(scores);
                out.fill(0.0);
                for (&score, value) in scores.iter().zip(values) {
                    ops::axpy(score, value, out);
                }
            });
    }
}
