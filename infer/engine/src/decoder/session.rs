//! One sequence: token ids in, logits out.
//!
//! Prompts go through in chunks, so that every matrix is read once per chunk; chunks of one token are decoding. The
//! result does not depend on how a text is cut. What happens to a chunk is [`super::forward`].

use super::engine::Engine;
use super::forward::ForwardBuffers;
use super::sequence::Sequence;
use retort_format::{Error, Result};

/// Tokens that go through the layers together.
const CHUNK: usize = 256;
/// Rows of logits computed together when every position is asked for.
const LOGIT_ROWS: usize = 32;

/// One sequence, and room to compute.
#[derive(Debug)]
pub struct Session<'e> {
    engine: &'e Engine,
    sequence: Sequence,
    context: usize,
    buffers: ForwardBuffers,
}

impl Engine {
    /// A new sequence with room for `context` positions.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if there is not enough memory for them.
    pub fn session(&self, context: usize) -> Result<Session<'_>> {
        if context == 0 {
            return Err(Error::Argument("the context must be at least 1".into()));
        }
        let bytes = (self.config()).kv_cache_bytes(context, self.settings().kv);
        if bytes.is_none() {
            let problem = format!("a context of {context} positions does not fit in memory");
            return Err(Error::Argument(format!("{problem}; choose a smaller one")));
        }
        self.check_memory(context)?;
        Ok(Session {
            engine: self,
            sequence: self.sequence(0),
            context,
            buffers: ForwardBuffers::default(),
        })
    }
}

impl<'e> Session<'e> {
    /// The model.
    pub fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The number of positions seen.
    pub fn len(&self) -> usize {
        self.sequence.len
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.sequence.len == 0
    }

    /// The number of positions there is room for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.sequence.truncate(len);
    }

    /// Takes `tokens` in and returns the logits `[vocab_size]` that follow the last of them.
    pub fn forward(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        if tokens.is_empty() {
            return Err(Error::Argument("there are no tokens to take in".into()));
        }
        self.take_in(tokens)?;
        self.last_logits()
    }

    /// Takes `tokens` in.
    pub fn take_in(&mut self, tokens: &[u32]) -> Result<()> {
        self.begin(tokens)?;
        for chunk in tokens.chunks(CHUNK) {
            self.take(chunk)?;
        }
        Ok(())
    }

    /// The logits `[vocab_size]` that follow the last token taken in.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if there is none.
    pub fn last_logits(&mut self) -> Result<&[f32]> {
        let rows = self.buffers.x.len() / self.engine.config().hidden_size;
        if rows == 0 {
            return Err(Error::Argument("no token has been taken in".into()));
        }
        self.buffers.logits(self.engine, rows - 1..rows)
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
                visit(done + row, self.buffers.logits(self.engine, row..end)?);
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
            hidden.extend_from_slice(&self.buffers.x);
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
        if self.sequence.len == 0 {
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
        self.sequence.truncate(self.sequence.len);
        taken?;
        for row in (0..rows).step_by(LOGIT_ROWS) {
            let end = (row + LOGIT_ROWS).min(rows);
            visit(row, self.buffers.logits(self.engine, row..end)?);
        }
        Ok(())
    }

    /// Checks `tokens`; the first of a sequence choose the rotary frequencies, which stay, as in
    /// Qwen's published code: keys already turned cannot be turned again.
    fn begin(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        if self.sequence.len == 0 {
            self.sequence.rope = self.engine.rope(tokens.len());
        }
        Ok(())
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.context - self.sequence.len {
            return Err(Error::Argument(format!(
                "{} more tokens do not fit a context of {} with {} taken; choose a larger one",
                tokens.len(),
                self.context,
                self.sequence.len
            )));
        }
        self.engine.config().check_tokens(tokens)
    }

    /// Takes a chunk in, leaving the residual stream in the scratch.
    fn take(&mut self, chunk: &[u32]) -> Result<()> {
        self.layers(&[chunk])?;
        self.sequence.len += chunk.len();
        Ok(())
    }

    /// Takes each of `branches` through all layers as what follows, leaving the residual stream in the scratch and the
    /// last branch's keys and values in the cache.
    fn layers(&mut self, branches: &[&[u32]]) -> Result<()> {
        let sequences = &mut [&mut self.sequence];
        self.buffers.forward(self.engine, sequences, branches)
    }
}
