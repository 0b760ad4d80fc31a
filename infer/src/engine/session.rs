//! The forward pass: token ids in, logits out, one sequence at a time.
//!
//! Shapes: a chunk of n tokens is x [n, hidden_size] on the residual stream; logits are rows of
//! [vocab_size] f32. Prompts go through in chunks, so that every matrix is read once per chunk;
//! chunks of one token are decoding. The result does not depend on how a text is cut.
//! Architecture: Llama (arXiv 2302.13971) with grouped-query attention.

use super::Engine;
use super::cache::Cache;
use super::rope::Rope;
use super::weights::{Layer, Weight};
use crate::kernels::{self, Activations, Matrix, ops};
use crate::pool::Pool;
use crate::{Error, Result};

/// Tokens that go through the layers together.
const CHUNK: usize = 256;
/// Rows of logits computed together when every position is asked for.
const LOGIT_ROWS: usize = 32;

/// How far each pair of a head turns at a position: cosine and sine.
type Turns = Vec<(f32, f32)>;

/// One sequence: its keys and values, and room to compute.
#[derive(Debug)]
pub struct Session<'e> {
    engine: &'e Engine,
    /// The frequencies for the length of the sequence's first prompt.
    rope: Rope,
    cache: Cache,
    context: usize,
    len: usize,
    scratch: Scratch,
    logits: Vec<f32>,
}

/// Intermediate results of a chunk, kept between chunks.
#[derive(Debug, Default)]
struct Scratch {
    /// The residual stream [n, hidden_size].
    x: Vec<f32>,
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

impl<'e> Session<'e> {
    pub(super) fn new(engine: &'e Engine, context: usize) -> Result<Self> {
        if context == 0 {
            return Err(Error::Argument("the context must be at least 1".into()));
        }
        super::memory::check(engine, context)?;
        Ok(Self {
            engine,
            rope: engine.rope(0),
            cache: Cache::new(&engine.config, context, engine.settings.kv)?,
            context,
            len: 0,
            scratch: Scratch::default(),
            logits: Vec::new(),
        })
    }

    /// The model.
    pub fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The number of positions seen.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of positions there is room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.cache.truncate(self.len);
    }

    /// Takes `tokens` in and returns the logits `[vocab_size]` that follow the last of them.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        if tokens.is_empty() {
            return Err(Error::Argument("there are no tokens to take in".into()));
        }
        self.begin(tokens)?;
        for chunk in tokens.chunks(CHUNK) {
            self.take(chunk)?;
        }
        let hidden = self.engine.config.hidden_size;
        let rows = self.scratch.x.len() / hidden;
        self.logits_of(rows - 1..rows)?;
        Ok(&self.logits)
    }

    /// Takes `tokens` in and hands the logits of each of them from `from` on to `visit`, a few
    /// rows at a time: the index of the first row's token, and rows [n, vocab_size].
    pub fn forward_all(
        &mut self,
        tokens: &[u32],
        from: usize,
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.begin(tokens)?;
        let mut done = 0;
        for chunk in tokens.chunks(CHUNK) {
            self.take(chunk)?;
            let mut row = from.saturating_sub(done);
            while row < chunk.len() {
                let end = (row + LOGIT_ROWS).min(chunk.len());
                self.logits_of(row..end)?;
                visit(done + row, &self.logits);
                row = end;
            }
            done += chunk.len();
        }
        Ok(())
    }

    /// Takes `tokens` in and adds what the layers answer for each of them, `[n, hidden_size]`, to
    /// `hidden`: for [`Engine::logits`], of some positions or of many sequences' together.
    pub fn hidden(&mut self, tokens: &[u32], hidden: &mut Vec<f32>) -> Result<()> {
        self.begin(tokens)?;
        for chunk in tokens.chunks(CHUNK) {
            self.take(chunk)?;
            hidden.extend_from_slice(&self.scratch.x);
        }
        Ok(())
    }

    /// Takes each of `branches` in as if it alone came next, all in one pass, and hands the logits of all their tokens
    /// to `visit`, a few rows at a time: the index of the first row's token, counted through all branches, and rows
    /// [n, vocab_size]. Nothing of them stays. The pass needs memory for all their tokens at once.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if nothing has been seen yet, a branch does not fit the context, or an id is unknown.
    pub fn forward_branches(
        &mut self,
        branches: &[&[u32]],
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        if self.len == 0 {
            let problem = "branches need something before them; take in a token first";
            return Err(Error::Argument(problem.into()));
        }
        for branch in branches {
            self.check(branch)?;
        }
        let rows: usize = branches.iter().map(|branch| branch.len()).sum();
        if rows == 0 {
            return Ok(());
        }
        let taken = self.layers(branches);
        self.cache.truncate(self.len);
        taken?;
        for row in (0..rows).step_by(LOGIT_ROWS) {
            self.logits_of(row..(row + LOGIT_ROWS).min(rows))?;
            visit(row, &self.logits);
        }
        Ok(())
    }

    /// Checks `tokens`; the first of a sequence choose the rotary frequencies, which stay, as in
    /// Qwen's published code: keys already turned cannot be turned again.
    fn begin(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        if self.len == 0 {
            self.rope = self.engine.rope(tokens.len());
        }
        Ok(())
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.context - self.len {
            return Err(Error::Argument(format!(
                "{} more tokens do not fit a context of {} with {} taken; choose a larger one",
                tokens.len(),
                self.context,
                self.len
            )));
        }
        let vocab_size = self.engine.config.vocab_size;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::Argument(format!(
                "token {id} is outside the vocabulary of {vocab_size}"
            )));
        }
        Ok(())
    }

    /// Takes a chunk in, leaving the residual stream in the scratch.
    fn take(&mut self, chunk: &[u32]) -> Result<()> {
        self.layers(&[chunk])?;
        self.len += chunk.len();
        Ok(())
    }

    /// Takes a chunk through all layers, leaving the residual stream in the scratch and the last branch's keys and
    /// values in the cache. Each of `branches` follows what has been seen; one alone is simply the next chunk.
    fn layers(&mut self, branches: &[&[u32]]) -> Result<()> {
        self.cache.truncate(self.len);
        self.embed(&branches.concat())?;
        let engine = self.engine;
        let lengths: Vec<usize> = branches.iter().map(|branch| branch.len()).collect();
        let positions = lengths.iter().flat_map(|n| self.len..self.len + n);
        let turns: Vec<_> = positions
            .map(|position| (position, self.rope.turns(position)))
            .collect();
        for (index, layer) in engine.weights.layers.iter().enumerate() {
            self.attention(index, layer, &turns, &lengths)?;
            self.mlp(layer)?;
        }
        Ok(())
    }

    fn embed(&mut self, tokens: &[u32]) -> Result<()> {
        let hidden = self.engine.config.hidden_size;
        let table = self.engine.weights.token_embd.matrix(&self.engine.gguf)?;
        let x = &mut self.scratch.x;
        x.resize(tokens.len() * hidden, 0.0);
        for (&token, row) in tokens.iter().zip(x.chunks_exact_mut(hidden)) {
            table.row(token as usize, row)?;
        }
        Ok(())
    }

    /// Attention of tokens at their positions, given with their rotary turns, in branches of `lengths`.
    fn attention(
        &mut self,
        index: usize,
        layer: &Layer,
        turns: &[(usize, Turns)],
        lengths: &[usize],
    ) -> Result<()> {
        let engine = self.engine;
        let config = &engine.config;
        let pool = engine.pool();
        let s = &mut self.scratch;
        let n = turns.len();
        engine.normed(&s.x, &layer.attn_norm, &mut s.input)?;
        engine.project(
            &s.input,
            [
                (&layer.q, &mut s.q),
                (&layer.k, &mut s.k),
                (&layer.v, &mut s.v),
            ],
        )?;
        let (bias, norm) = (layer.qkv_bias.as_ref(), layer.qk_norm.as_ref());
        let (rope, grain) = (&self.rope, grain(n, pool));
        let parts = [(&mut s.q, config.q_size()), (&mut s.k, config.kv_size())];
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
            for row in s.v.chunks_exact_mut(bias.len()) {
                ops::axpy(1.0, bias, row);
            }
        }
        s.attended.resize(s.q.len(), 0.0);
        let mut first = 0;
        for length in lengths.iter().filter(|&&length| length > 0) {
            let part = |size: usize| first * size..(first + length) * size;
            let (q, kv) = (part(config.q_size()), part(config.kv_size()));
            self.cache.rewind(index, self.len);
            self.cache.append(pool, index, &s.k[kv.clone()], &s.v[kv]);
            self.cache
                .attend(pool, index, &s.q[q.clone()], &mut s.attended[q]);
            first += length;
        }
        let (attended, size) = (&s.attended, config.q_size());
        s.input
            .fill(kernels::active()?, pool, n, size, |token, row| {
                row.copy_from_slice(&attended[token * size..(token + 1) * size]);
            });
        engine.project(&s.input, [(&layer.o, &mut s.update)])?;
        engine.add(&s.update, &mut s.x);
        Ok(())
    }

    fn mlp(&mut self, layer: &Layer) -> Result<()> {
        let engine = self.engine;
        let config = &engine.config;
        let s = &mut self.scratch;
        let n = s.x.len() / config.hidden_size;
        engine.normed(&s.x, &layer.ffn_norm, &mut s.input)?;
        engine.project(
            &s.input,
            [(&layer.gate, &mut s.gate), (&layer.up, &mut s.up)],
        )?;
        let (gate, up, size) = (&s.gate, &s.up, config.intermediate_size);
        s.input
            .fill(kernels::active()?, engine.pool(), n, size, |token, row| {
                let at = token * size..(token + 1) * size;
                ops::swiglu(&gate[at.clone()], &up[at], row);
            });
        engine.project(&s.input, [(&layer.down, &mut s.update)])?;
        engine.add(&s.update, &mut s.x);
        Ok(())
    }

    /// Logits of the chunk's rows `rows` into `self.logits`.
    fn logits_of(&mut self, rows: std::ops::Range<usize>) -> Result<()> {
        let engine = self.engine;
        let s = &mut self.scratch;
        let hidden = engine.config.hidden_size;
        let x = &s.x[rows.start * hidden..rows.end * hidden];
        engine.head(x, &mut s.input, &mut self.logits)
    }
}

impl Engine {
    /// The logits `[n, vocab_size]` of what [`Session::hidden`] gave, `[n, hidden_size]`.
    pub fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.head(hidden, &mut Activations::new(), &mut logits)?;
        Ok(logits)
    }

    /// Norm and output projection of `x` [n, hidden_size].
    fn head(&self, x: &[f32], input: &mut Activations, logits: &mut Vec<f32>) -> Result<()> {
        self.normed(x, &self.weights.output_norm, input)?;
        self.project(input, [(&self.weights.output, logits)])
    }

    /// Multiplies `input` [n, cols] by each weight [rows, cols] into its y [n, rows].
    fn project<const N: usize>(
        &self,
        input: &Activations,
        products: [(&Weight, &mut Vec<f32>); N],
    ) -> Result<()> {
        let mut all: Vec<(Matrix, &mut [f32])> = Vec::with_capacity(N);
        for (weight, y) in products {
            y.resize(input.n_tokens() * weight.rows, 0.0);
            all.push((weight.matrix(&self.gguf)?, y));
        }
        kernels::active()?.matmuls(self.pool(), input, &mut all)
    }

    /// RMSNorm of every row of `x` [n, weight.len()] into `input`.
    fn normed(&self, x: &[f32], weight: &[f32], input: &mut Activations) -> Result<()> {
        let (width, eps) = (weight.len(), self.config.rms_norm_eps);
        let n = x.len() / width;
        input.fill(kernels::active()?, self.pool(), n, width, |token, row| {
            ops::rms_norm(&x[token * width..(token + 1) * width], weight, eps, row);
        });
        Ok(())
    }

    /// `x += update`, row by row.
    fn add(&self, update: &[f32], x: &mut [f32]) {
        let width = self.config.hidden_size;
        let grain = grain(x.len() / width, self.pool());
        self.pool().rows(x, width, grain, |token, row| {
            ops::axpy(1.0, &update[token * width..(token + 1) * width], row);
        });
    }
}

/// Rows that a thread takes at a time where all take about as long.
fn grain(rows: usize, pool: &Pool) -> usize {
    rows.div_ceil(pool.threads())
}
