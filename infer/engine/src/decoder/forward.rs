//! The forward pass: pieces of sequences through all layers together.
//!
//! Shapes: n tokens are x [n, hidden_size] on the residual stream; logits are rows of [vocab_size] f32. Every matrix
//! is read once for all pieces; attention is each sequence's own. The result does not depend on how a text is cut,
//! nor, with packed files, on what else goes through (see [`Batch`](super::Batch)).
//! Architecture: Llama (arXiv 2302.13971) with grouped-query attention.

use super::Engine;
use super::kv_block::BLOCK;
use super::kv_cache::{Cache, Page};
use super::linear::grain;
use super::rope::Rope;
use super::weights::Layer;
use retort_format::{Error, Result};
use retort_kernels::pool::Pool;
use retort_kernels::{Activations, ops};

/// How far each pair of a head turns at a position: cosine and sine.
type Turns = Vec<(f32, f32)>;

/// What one sequence has behind it: its keys and values.
#[derive(Debug)]
pub struct Sequence {
    /// The frequencies for the length of the sequence's first prompt.
    pub(super) rope: Rope,
    pub(super) cache: Cache,
    pub(super) len: usize,
}

/// Tokens that follow what a sequence has behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'t> {
    /// Which of the sequences.
    pub sequence: usize,
    pub tokens: &'t [u32],
}

/// Room to compute, kept between passes.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The residual stream [n, hidden_size].
    pub x: Vec<f32>,
    /// Queries, and then what attention gathered [n, q_size].
    q: Vec<f32>,
    attended: Vec<f32>,
    /// Keys and values [n, kv_size].
    k: Vec<f32>,
    v: Vec<f32>,
    /// The MLP's two branches [n, intermediate_size].
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What the next matrices are multiplied with.
    input: Activations,
    /// What a sublayer adds to x [n, hidden_size].
    update: Vec<f32>,
}

impl Sequence {
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
}

/// A piece's part in a layer's attention.
struct Part<'a> {
    cache: &'a mut Cache,
    /// Positions before the piece.
    before: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a mut [f32],
}

impl Part<'_> {
    fn attend(&mut self, pool: &Pool, layer: usize) {
        self.cache.rewind(layer, self.before);
        let tokens = self.k.len() / self.cache.width();
        let (q, kv) = (self.q.len() / tokens, self.k.len() / tokens);
        let mut done = 0;
        while done < tokens {
            // as far as what is quantized stays the same: a query finds what it would find alone
            let end = self.cache.steady(self.before + done) - self.before;
            let part = done..end.min(tokens);
            let of = |width: usize| part.start * width..part.end * width;
            self.cache
                .append(pool, layer, &self.k[of(kv)], &self.v[of(kv)]);
            self.cache
                .attend(pool, layer, &self.q[of(q)], &mut self.out[of(q)]);
            done = part.end;
        }
    }
}

impl Pass {
    /// Takes `pieces` through all layers, leaving the residual stream in `x`. Either each sequence has one piece, in
    /// their order, or there is one sequence and each piece is as if it alone followed; the last one's keys and values
    /// stay in the cache. The sequences' lengths are left as they are.
    pub(super) fn layers(
        &mut self,
        engine: &Engine,
        sequences: &mut [&mut Sequence],
        pieces: &[Piece],
    ) -> Result<()> {
        for sequence in sequences.iter_mut() {
            let len = sequence.len;
            sequence.cache.truncate(len);
        }
        self.embed(engine, pieces)?;
        let turns: Vec<_> = (pieces.iter())
            .flat_map(|piece| {
                let sequence = &sequences[piece.sequence];
                (0..piece.tokens.len()).map(|i| {
                    let position = sequence.len + i;
                    (position, sequence.rope.turns(position))
                })
            })
            .collect();
        // which elements of a head form pairs is the same for every sequence
        let Some(rope) = sequences.first().map(|sequence| sequence.rope.clone()) else {
            return Ok(());
        };
        for (index, layer) in engine.weights.layers.iter().enumerate() {
            self.project_qkv(engine, layer, &rope, &turns)?;
            self.attend(engine, index, sequences, pieces);
            self.project_attended(engine, layer, turns.len())?;
            self.mlp(engine, layer)?;
        }
        Ok(())
    }

    fn embed(&mut self, engine: &Engine, pieces: &[Piece]) -> Result<()> {
        let hidden = engine.config.hidden_size;
        let table = engine.weights.token_embd.matrix(&engine.gguf);
        let tokens = || pieces.iter().flat_map(|piece| piece.tokens);
        self.x.resize(tokens().count() * hidden, 0.0);
        for (&token, row) in tokens().zip(self.x.chunks_exact_mut(hidden)) {
            table.row(token as usize, row)?;
        }
        Ok(())
    }

    /// Queries, keys and values of tokens at their positions, given with their rotary turns.
    fn project_qkv(
        &mut self,
        engine: &Engine,
        layer: &Layer,
        rope: &Rope,
        turns: &[(usize, Turns)],
    ) -> Result<()> {
        let config = &engine.config;
        let pool = engine.pool();
        engine.normed(&self.x, &layer.attn_norm, &mut self.input)?;
        engine.project(
            &self.input,
            [
                (&layer.q, &mut self.q),
                (&layer.k, &mut self.k),
                (&layer.v, &mut self.v),
            ],
        )?;
        let (bias, norm) = (layer.qkv_bias.as_ref(), layer.qk_norm.as_ref());
        let grain = grain(turns.len(), pool);
        let parts = [
            (&mut self.q, config.q_size()),
            (&mut self.k, config.kv_size()),
        ];
        for (part, (rows, size)) in parts.into_iter().enumerate() {
            pool.rows(rows, size, grain, |token, row| {
                if let Some(bias) = bias {
                    ops::axpy(1.0, &bias[part], row);
                }
                if let Some(norm) = norm {
                    for head in row.chunks_exact_mut(config.head_dim) {
                        ops::rms_norm_in_place(head, &norm[part], config.rms_norm_eps);
                    }
                }
                let (position, turns) = &turns[token];
                rope.apply(row, turns);
                let scale = config.past_trained.query_scale(*position);
                if part == 0 && scale != 1.0 {
                    row.iter_mut().for_each(|q| *q *= scale);
                }
            });
        }
        if let Some([_, _, bias]) = bias {
            for row in self.v.chunks_exact_mut(bias.len()) {
                ops::axpy(1.0, bias, row);
            }
        }
        Ok(())
    }

    /// Attention of each piece over its own sequence.
    fn attend(
        &mut self,
        engine: &Engine,
        layer: usize,
        sequences: &mut [&mut Sequence],
        pieces: &[Piece],
    ) {
        let (pool, config) = (engine.pool(), &engine.config);
        let (q_size, kv_size) = (config.q_size(), config.kv_size());
        self.attended.resize(self.q.len(), 0.0);
        let (mut q, mut k, mut v) = (&self.q[..], &self.k[..], &self.v[..]);
        let mut out = &mut self.attended[..];
        let mut next = |n: usize| {
            let part = (
                q.split_off(..n * q_size),
                k.split_off(..n * kv_size),
                v.split_off(..n * kv_size),
                out.split_off_mut(..n * q_size),
            );
            match part {
                (Some(q), Some(k), Some(v), Some(out)) => Some((q, k, v, out)),
                _ => None,
            }
        };
        let mut parts = Vec::new();
        match sequences {
            [one] => {
                for piece in pieces.iter().filter(|piece| !piece.tokens.is_empty()) {
                    if let Some((q, k, v, out)) = next(piece.tokens.len()) {
                        let before = one.len;
                        let cache = &mut one.cache;
                        Part {
                            cache,
                            before,
                            q,
                            k,
                            v,
                            out,
                        }
                        .attend(pool, layer);
                    }
                }
            }
            several => {
                for (sequence, piece) in several.iter_mut().zip(pieces) {
                    if piece.tokens.is_empty() {
                        continue;
                    }
                    if let Some((q, k, v, out)) = next(piece.tokens.len()) {
                        let before = sequence.len;
                        let cache = &mut sequence.cache;
                        parts.push(Part {
                            cache,
                            before,
                            q,
                            k,
                            v,
                            out,
                        });
                    }
                }
            }
        }
        // pieces of one token are little work, and each thread takes whole ones
        let (mut single, long): (Vec<_>, Vec<_>) =
            (parts.into_iter()).partition(|part| part.q.len() == q_size);
        if single.len() < pool.threads() {
            single.iter_mut().for_each(|part| part.attend(pool, layer));
        } else {
            let alone = Pool::single();
            pool.rows(&mut single, 1, 1, |_, part| part[0].attend(&alone, layer));
        }
        for mut part in long {
            part.attend(pool, layer);
        }
    }

    fn project_attended(&mut self, engine: &Engine, layer: &Layer, n: usize) -> Result<()> {
        let (attended, size) = (&self.attended, engine.config.q_size());
        let pool = engine.pool();
        self.input
            .fill(retort_kernels::active()?, pool, n, size, |token, row| {
                row.copy_from_slice(&attended[token * size..(token + 1) * size]);
            });
        engine.project(&self.input, [(&layer.o, &mut self.update)])?;
        engine.add(&self.update, &mut self.x);
        Ok(())
    }

    fn mlp(&mut self, engine: &Engine, layer: &Layer) -> Result<()> {
        let config = &engine.config;
        let n = self.x.len() / config.hidden_size;
        engine.normed(&self.x, &layer.ffn_norm, &mut self.input)?;
        engine.project(
            &self.input,
            [(&layer.gate, &mut self.gate), (&layer.up, &mut self.up)],
        )?;
        let (gate, up, size) = (&self.gate, &self.up, config.intermediate_size);
        self.input.fill(
            retort_kernels::active()?,
            engine.pool(),
            n,
            size,
            |token, row| {
                let at = token * size..(token + 1) * size;
                ops::swiglu(&gate[at.clone()], &up[at], row);
            },
        );
        engine.project(&self.input, [(&layer.down, &mut self.update)])?;
        engine.add(&self.update, &mut self.x);
        Ok(())
    }
}

impl Engine {
    /// A sequence that will begin with a prompt of `prompt` tokens.
    pub fn sequence(&self, prompt: usize) -> Sequence {
        Sequence {
            rope: self.rope(prompt),
            cache: Cache::new(&self.config, self.settings.kv),
            len: 0,
        }
    }
}
