//! One sequence: its keys and values, the rotary frequencies that it began with, and attention of the tokens that follow.

use super::kv_block::BLOCK;
use super::kv_cache::{KvCache, Page};
use super::rope::Rope;
use retort_format::{Error, Result};
use retort_kernels::pool::Pool;

/// The keys and values of a sequence's tokens so far.
#[derive(Debug)]
pub struct Sequence {
    /// The frequencies for the length of the sequence's first prompt.
    pub(super) rope: Rope,
    pub(super) cache: KvCache,
    pub(super) len: usize,
}

impl Sequence {
    /// A sequence that begins with `cache`, which is empty.
    pub fn new(rope: Rope, cache: KvCache) -> Self {
        Self {
            rope,
            cache,
            len: 0,
        }
    }

    /// The number of positions behind it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.cache.truncate(self.len);
    }

    /// Page `index` of those that are full.
    pub fn page(&self, index: usize) -> Option<Page> {
        (index < self.len / BLOCK).then(|| self.cache.page(index))
    }

    /// Begins with the positions of `pages`, which another sequence began with.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if this sequence has begun, or a page is of another model or format.
    pub fn adopt(&mut self, pages: &[Page]) -> Result<()> {
        if self.len > 0 || !pages.iter().all(|page| self.cache.fits(page)) {
            let problem = "pages are adopted by an empty sequence of the same model";
            return Err(Error::Argument(problem.into()));
        }
        self.cache.truncate(0);
        for page in pages {
            self.cache.adopt(page);
        }
        self.len = pages.len() * BLOCK;
        Ok(())
    }

    /// Attention of the tokens of `chunk`, which come next, in one layer.
    pub(super) fn attend(&mut self, pool: &Pool, layer: usize, chunk: &mut ChunkAttention) {
        self.cache.rewind(layer, self.len);
        let tokens = chunk.k.len() / self.cache.width();
        let (q, kv) = (chunk.q.len() / tokens, chunk.k.len() / tokens);
        let mut done = 0;
        while done < tokens {
            // as far as what is quantized stays the same: a query finds what it would find alone
            let end = self.cache.steady(self.len + done) - self.len;
            let part = done..end.min(tokens);
            let of = |width: usize| part.start * width..part.end * width;
            (self.cache).append(pool, layer, &chunk.k[of(kv)], &chunk.v[of(kv)]);
            (self.cache).attend(pool, layer, &chunk.q[of(q)], &mut chunk.out[of(q)]);
            done = part.end;
        }
    }
}

/// Queries, keys and values of a chunk of tokens, and what attention gathers for them, like the queries.
pub(super) struct ChunkAttention<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl ChunkAttention<'_> {
    /// Takes the first `q` numbers of queries and `kv` of keys and values off.
    pub(super) fn cut(&mut self, q: usize, kv: usize) -> Self {
        let (out, rest) = std::mem::take(&mut self.out).split_at_mut(q);
        let first = Self {
            q: &self.q[..q],
            k: &self.k[..kv],
            v: &self.v[..kv],
            out,
        };
        *self = Self {
            q: &self.q[q..],
            k: &self.k[kv..],
            v: &self.v[kv..],
            out: rest,
        };
        first
    }
}
