//! Several sequences taken through the model together.
//!
//! In: sequences with the tokens that come next in each, one or many; out: logits of any of these tokens. A matrix is
//! read from memory once for all of them, which is what makes eight answers cost little more than one.
//!
//! In a packed file's matrices (Q4_0, Q4_1, Q8_0 in panels of sixteen rows), a row of a product does not depend on the
//! rows beside it: a sequence gets the same bits whatever it shares a pass with. Other files take other kernels for
//! more than six tokens than for fewer, whose sums differ, and with them what activations are rounded to; and quantized keys and values depend on how a
//! text was cut.

use super::engine::Engine;
use super::forward::ForwardBuffers;
use super::sequence::Sequence;
use retort_format::{Error, Result};
use retort_kernels::{Activations, ops};

/// Room to compute a pass over several sequences.
#[derive(Debug)]
pub struct Batch<'e> {
    engine: &'e Engine,
    buffers: ForwardBuffers,
    input: Activations,
    /// The rows of the residual stream that logits are asked for.
    gathered: Vec<f32>,
    logits: Vec<f32>,
}

impl<'e> Batch<'e> {
    /// Room that grows with what is taken.
    pub fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            buffers: ForwardBuffers::default(),
            input: Activations::new(),
            gathered: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Takes tokens of several sequences in. Rows of the results are tokens, in the order given.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if there are no tokens or one is outside the vocabulary; the sequences are as before.
    pub fn forward(&mut self, work: &mut [(&mut Sequence, &[u32])]) -> Result<()> {
        for (_, tokens) in work.iter() {
            self.engine.config().check_tokens(tokens)?;
        }
        if work.iter().all(|(_, tokens)| tokens.is_empty()) {
            return Err(Error::Argument("there are no tokens to take in".into()));
        }
        let (mut sequences, chunks): (Vec<&mut Sequence>, Vec<&[u32]>) = (work.iter_mut())
            .map(|(sequence, tokens)| (&mut **sequence, *tokens))
            .unzip();
        (self.buffers).forward(self.engine, &mut sequences, &chunks)?;
        for (sequence, chunk) in sequences.into_iter().zip(chunks) {
            sequence.len += chunk.len();
        }
        Ok(())
    }

    /// The logits `[n, vocab_size]` that follow the tokens `rows` of the last pass.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a row that the pass did not have.
    pub fn logits(&mut self, rows: impl IntoIterator<Item = usize>) -> Result<&[f32]> {
        let width = self.engine.config().hidden_size;
        self.gathered.clear();
        for row in rows {
            let Some(row) = self.buffers.x.chunks_exact(width).nth(row) else {
                return Err(Error::Argument(format!("the pass has no row {row}")));
            };
            self.gathered.extend_from_slice(row);
        }
        let engine = self.engine;
        engine.head(&self.gathered, &mut self.input, &mut self.logits)?;
        Ok(&self.logits)
    }

    /// The last hidden states `[n, hidden_size]` of the tokens of the last pass, after the final norm.
    pub fn states(&self) -> Vec<f32> {
        let weight = &self.engine.weights.output_norm;
        let eps = self.engine.config().rms_norm_eps;
        let mut states = vec![0.0; self.buffers.x.len()];
        for (x, state) in
            (self.buffers.x.chunks_exact(weight.len())).zip(states.chunks_exact_mut(weight.len()))
        {
            ops::rms_norm(x, weight, eps, state);
        }
        states
    }
}
