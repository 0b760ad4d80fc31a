//! The forward pass: chunks of sequences through all layers together.
//!
//! Shapes: n tokens are x [n, hidden_size] on the residual stream; logits are rows of [vocab_size] f32. Every matrix
//! is read once for all chunks; attention is each sequence's own. The result does not depend on how a text is cut,
//! nor, with packed files, on what else goes through (see [`Batch`](super::Batch)). What a layer does: [`super::layer`].

use std::ops::Range;

use super::engine::Engine;
use super::layer::{ForwardContext, LayerBuffers, LayerProducts, LinearGroup};
use super::sequence::Sequence;
use super::weights::Layer;
use retort_format::{LayerLinear, Result};
use retort_kernels::Activations;

/// Buffers of a forward pass, kept between passes.
#[derive(Debug, Default)]
pub(super) struct ForwardBuffers {
    /// The residual stream [n, hidden_size].
    pub x: Vec<f32>,
    layer: LayerBuffers,
    /// What the next matrices are multiplied with.
    input: Activations,
    /// What a sublayer adds to x [n, hidden_size].
    update: Vec<f32>,
    logits: Vec<f32>,
}

/// A layer's matrices in the mapped file, multiplied by the kernels.
struct KernelProducts<'a> {
    engine: &'a Engine,
    layer: &'a Layer,
    input: &'a Activations,
    update: &'a mut Vec<f32>,
}

impl LayerProducts for KernelProducts<'_> {
    fn project<const N: usize>(
        &mut self,
        outputs: [(LayerLinear, &mut Vec<f32>); N],
    ) -> Result<()> {
        let products = outputs.map(|(linear, y)| (self.layer.matrix(linear), y));
        self.engine.project(self.input, products)
    }

    fn add_product(&mut self, linear: LayerLinear, x: &mut [f32]) -> Result<()> {
        let product = (self.layer.matrix(linear), &mut *self.update);
        self.engine.project(self.input, [product])?;
        self.engine.add(self.update, x);
        Ok(())
    }
}

impl ForwardBuffers {
    /// Takes `chunks` of tokens through all layers, leaving the residual stream in `x`. Which sequence a chunk follows:
    /// [`ForwardContext::new`].
    pub(super) fn forward(
        &mut self,
        engine: &Engine,
        sequences: &mut [&mut Sequence],
        chunks: &[&[u32]],
    ) -> Result<()> {
        self.embed(engine, chunks)?;
        let (config, pool) = (engine.config(), engine.pool());
        let n_tokens = self.x.len() / config.hidden_size;
        let lengths = chunks.iter().map(|chunk| chunk.len()).collect();
        let mut context = ForwardContext::new(config, pool, sequences, lengths);
        let kernels = retort_kernels::active()?;
        for (index, layer) in engine.weights.layers.iter().enumerate() {
            for group in LinearGroup::ALL {
                let width = group.input_size(config);
                (self.input).fill(kernels, pool, n_tokens, width, |token, row| {
                    let vectors = &layer.vectors;
                    (self.layer).input_row(group, config, vectors, &self.x, token, row);
                });
                let mut products = KernelProducts {
                    engine,
                    layer,
                    input: &self.input,
                    update: &mut self.update,
                };
                let x = &mut self.x;
                (self.layer).step(group, &mut context, index, &layer.vectors, &mut products, x)?;
            }
        }
        Ok(())
    }

    /// The logits [n, vocab_size] of these rows of `x`.
    pub(super) fn logits(&mut self, engine: &Engine, rows: Range<usize>) -> Result<&[f32]> {
        let hidden = engine.config().hidden_size;
        let x = &self.x[rows.start * hidden..rows.end * hidden];
        engine.head(x, &mut self.input, &mut self.logits)?;
        Ok(&self.logits)
    }

    fn embed(&mut self, engine: &Engine, chunks: &[&[u32]]) -> Result<()> {
        let hidden = engine.config().hidden_size;
        let table = engine.weights.token_embd.matrix(engine.gguf());
        let tokens = || chunks.iter().copied().flatten();
        self.x.resize(tokens().count() * hidden, 0.0);
        for (&token, row) in tokens().zip(self.x.chunks_exact_mut(hidden)) {
            table.row(token as usize, row)?;
        }
        Ok(())
    }
}
