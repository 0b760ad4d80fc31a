//! Keys and values of the positions seen so far, and attention over them.
//!
//! Per layer and key head a list of blocks of 32 positions (see [`super::kv_block`]), made as positions come: memory is that
//! of the positions there are, not of the context there may be. A full block may be shared by sequences that begin
//! alike: a [`Page`] holds those of all layers and heads, and counts references to them.
//!
//! Work is cut into units of one key head and a few tokens, whose query heads share the decoded keys. A long sequence
//! is cut into stretches of [`STRETCH`] positions whose softmaxes are merged in order, whether one thread or several
//! computed them: the result does not depend on the number of threads, nor on how a text came in.

use std::cell::RefCell;
use std::sync::Arc;

use super::config::Config;
use super::kv_block::{BLOCK, Block, KvType};
use retort_kernels::attention::{STEP, State, Step, width};
use retort_kernels::pool::Pool;

/// Positions whose softmax is computed on its own.
const STRETCH: usize = 512;
/// Queries in a unit, about.
const QUERIES: usize = 32;

/// The keys and values of one sequence.
#[derive(Debug)]
pub struct KvCache {
    /// Per layer and key head.
    heads: Vec<Vec<Arc<Block>>>,
    /// Positions stored per layer: a forward pass is ahead in its first layers.
    stored: Vec<usize>,
    ty: KvType,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    /// Per unit and stretch.
    states: Vec<State>,
}

thread_local! {
    /// A thread's decoded keys and values, queries, visible positions, and the state of a stretch.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    seen: Vec<usize>,
    stretch: State,
}

/// The keys and values of [`PAGE`](super::PAGE) positions of a sequence, all layers and heads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Page {
    /// Per layer and key head.
    blocks: Arc<[Arc<Block>]>,
    ty: KvType,
    head_dim: usize,
}

impl Page {
    /// A page of a model without layers, for tests that only count who holds pages.
    pub fn empty() -> Self {
        Self {
            blocks: Arc::default(),
            ty: KvType::F16,
            head_dim: 0,
        }
    }
}

/// How a layer's attention is cut.
struct AttentionSplit {
    n_tokens: usize,
    /// Tokens in a unit.
    tokens: usize,
    /// Positions before the first token.
    before: usize,
    stretches: usize,
}

impl KvCache {
    /// An empty cache.
    pub fn new(config: &Config, ty: KvType) -> Self {
        Self {
            heads: vec![Vec::new(); config.n_layers * config.n_kv_heads],
            stored: vec![0; config.n_layers],
            ty,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            states: Vec::new(),
        }
    }

    /// Full blocks `index` of all layers and heads.
    pub(super) fn page(&self, index: usize) -> Page {
        Page {
            blocks: self
                .heads
                .iter()
                .map(|head| Arc::clone(&head[index]))
                .collect(),
            ty: self.ty,
            head_dim: self.head_dim,
        }
    }

    /// Whether `page` comes from a cache of this shape.
    pub(super) fn fits(&self, page: &Page) -> bool {
        page.blocks.len() == self.heads.len()
            && page.ty == self.ty
            && page.head_dim == self.head_dim
    }

    /// Takes `page` as the positions that come next, in all layers.
    pub(super) fn adopt(&mut self, page: &Page) {
        for (head, block) in self.heads.iter_mut().zip(page.blocks.iter()) {
            head.push(Arc::clone(block));
        }
        self.stored.iter_mut().for_each(|stored| *stored += BLOCK);
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, len: usize) {
        for head in &mut self.heads {
            head.truncate(len.div_ceil(BLOCK));
        }
        self.stored
            .iter_mut()
            .for_each(|stored| *stored = len.min(*stored));
    }

    /// Forgets the positions of one layer from `len` on.
    pub(super) fn rewind(&mut self, layer: usize, len: usize) {
        for head in &mut self.heads[layer * self.n_kv_heads..(layer + 1) * self.n_kv_heads] {
            head.truncate(len.div_ceil(BLOCK));
        }
        self.stored[layer] = len.min(self.stored[layer]);
    }

    /// The first position after `position` from which older ones are held in fewer bits than before.
    pub(super) fn steady(&self, position: usize) -> usize {
        match self.ty {
            KvType::Q8 | KvType::Q4 => (position / BLOCK + 1) * BLOCK,
            KvType::F32 | KvType::F16 => usize::MAX,
        }
    }

    /// Numbers in a position's keys, or values, of a layer.
    pub(super) fn width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Adds the keys and values [n_tokens, n_kv_heads, head_dim] of the next positions.
    pub fn append(&mut self, pool: &Pool, layer: usize, keys: &[f32], values: &[f32]) {
        let (hd, n, ty) = (self.head_dim, self.n_kv_heads, self.ty);
        let stored = self.stored[layer];
        let tokens = keys.len() / (n * hd);
        let heads = &mut self.heads[layer * n..(layer + 1) * n];
        let grain = if tokens == 1 { n } else { 1 };
        pool.rows(heads, 1, grain, |index, head| {
            let head = &mut head[0];
            for token in 0..tokens {
                let position = stored + token;
                let (block, i) = (position / BLOCK, position % BLOCK);
                if block == head.len() {
                    if let Some(full) = block.checked_sub(2)
                        && let Some(quantized) = head[full].quantized(ty, hd)
                    {
                        head[full] = Arc::new(quantized);
                    }
                    head.push(Arc::new(Block::new(ty, hd)));
                }
                let at = (token * n + index) * hd..(token * n + index + 1) * hd;
                // a block that others share is copied before it is written
                Arc::make_mut(&mut head[block]).set(i, &keys[at.clone()], &values[at]);
            }
        });
        self.stored[layer] += tokens;
    }

    /// Causal attention of the queries `q` [n_tokens, n_heads, head_dim], the last positions
    /// appended to `layer`, into `out` of the same shape.
    pub fn attend(&mut self, pool: &Pool, layer: usize, q: &[f32], out: &mut [f32]) {
        let (hd, n_kv) = (self.head_dim, self.n_kv_heads);
        let group = self.n_heads / n_kv;
        let n_tokens = q.len() / (self.n_heads * hd);
        let tokens = (QUERIES / group).clamp(1, n_tokens);
        let units = n_kv * n_tokens.div_ceil(tokens);
        let stored = self.stored[layer];
        // few units are cut along the positions too, so that all threads have work
        let stretches = if units < 2 * pool.threads() {
            stored.div_ceil(STRETCH)
        } else {
            1
        };
        let cut = AttentionSplit {
            n_tokens,
            tokens,
            before: stored - n_tokens,
            stretches,
        };
        let mut states = std::mem::take(&mut self.states);
        if states.len() < units * stretches {
            states.resize(units * stretches, State::default());
        }
        let used = &mut states[..units * stretches];
        pool.rows(used, 1, 1, |index, state| {
            SCRATCH.with_borrow_mut(|scratch| {
                self.unit(layer, q, &cut, index, &mut state[0], scratch)
            });
        });
        if stretches > 1 {
            for unit in used.chunks_exact_mut(stretches) {
                let (first, rest) = unit.split_at_mut(1);
                rest.iter().for_each(|next| first[0].merge(next));
            }
        }
        let used = &states[..units * stretches];
        let grain = n_tokens.div_ceil(pool.threads()) * n_kv;
        pool.rows(out, group * hd, grain, |row, out| {
            let (token, head) = (row / n_kv, row % n_kv);
            let state = &used[(token / tokens * n_kv + head) * stretches];
            for (g, out) in out.chunks_exact_mut(hd).enumerate() {
                state.output(token % tokens * group + g, out);
            }
        });
        // what a prompt needed is not kept while its answer is written
        states.truncate(units * stretches);
        self.states = states;
    }

    /// One unit, or one stretch of it, into `state`.
    fn unit(
        &self,
        layer: usize,
        q: &[f32],
        cut: &AttentionSplit,
        index: usize,
        state: &mut State,
        scratch: &mut Scratch,
    ) {
        let (hd, n_kv) = (self.head_dim, self.n_kv_heads);
        let group = self.n_heads / n_kv;
        let (unit, stretch) = (index / cut.stretches, index % cut.stretches);
        let (head, first) = (unit % n_kv, unit / n_kv * cut.tokens);
        let last = (first + cut.tokens).min(cut.n_tokens);
        let n = (last - first) * group;
        let scale = 1.0 / (hd as f32).sqrt();
        scratch.queries.clear();
        for token in first..last {
            let row = &q[(token * self.n_heads + head * group) * hd..][..group * hd];
            scratch.queries.extend(row.iter().map(|q| q * scale));
        }
        scratch.keys.resize(STEP * hd, 0.0);
        // what fills values up to their width is never written, and stays zero or a finite leftover
        scratch.values.resize(STEP * width(hd), 0.0);
        scratch.seen.resize(n, 0);
        state.reset(n, hd);
        let blocks = &self.heads[layer * n_kv + head];
        let end = cut.before + last;
        let starts = match cut.stretches {
            1 => 0..end,
            _ => stretch * STRETCH..((stretch + 1) * STRETCH).min(end),
        };
        for from in starts.step_by(STRETCH) {
            scratch.stretch.reset(n, hd);
            for start in (from..(from + STRETCH).min(end)).step_by(STEP) {
                let parts = scratch.keys.chunks_exact_mut(BLOCK * hd);
                let rows = scratch.values.chunks_exact_mut(BLOCK * width(hd));
                for (block, (keys, values)) in blocks[start / BLOCK..].iter().zip(parts.zip(rows)) {
                    block.read(hd, keys, values);
                }
                for (i, seen) in scratch.seen.iter_mut().enumerate() {
                    let position = cut.before + first + i / group;
                    *seen = (position + 1).saturating_sub(start).min(STEP);
                }
                scratch.stretch.step(&Step {
                    queries: &scratch.queries,
                    head_dim: hd,
                    keys: &scratch.keys,
                    values: &scratch.values,
                    seen: &scratch.seen,
                });
            }
            state.merge(&scratch.stretch);
        }
    }
}
