//! What a pass is made of besides attention: products with weights, norms and sums, on all threads.

use super::engine::Engine;
use super::layer::grain;
use super::weights::Weight;
use retort_format::Result;
use retort_kernels::{Activations, Matrix, ops};

impl Engine {
    /// The logits `[n, vocab_size]` of what [`Session::hidden`](super::Session::hidden) gave, `[n, hidden_size]`.
    pub fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.head(hidden, &mut Activations::new(), &mut logits)?;
        Ok(logits)
    }

    /// Norm and output projection of `x` [n, hidden_size].
    pub(super) fn head(
        &self,
        x: &[f32],
        input: &mut Activations,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        self.normed(x, &self.weights.output_norm, input)?;
        self.project(input, [(&self.weights.output, logits)])
    }

    /// Multiplies `input` [n, cols] by each weight [rows, cols] into its y [n, rows].
    pub(super) fn project<const N: usize>(
        &self,
        input: &Activations,
        products: [(&Weight, &mut Vec<f32>); N],
    ) -> Result<()> {
        let mut all: Vec<(Matrix, &mut [f32])> = Vec::with_capacity(N);
        for (weight, y) in products {
            y.resize(input.n_tokens() * weight.rows(), 0.0);
            all.push((weight.matrix(self.gguf()), y));
        }
        retort_kernels::active()?.matmuls(self.pool(), input, &mut all)
    }

    /// RMSNorm of every row of `x` [n, weight.len()] into `input`.
    pub(super) fn normed(&self, x: &[f32], weight: &[f32], input: &mut Activations) -> Result<()> {
        let (width, eps) = (weight.len(), self.config().rms_norm_eps);
        let n = x.len() / width;
        input.fill(
            retort_kernels::active()?,
            self.pool(),
            n,
            width,
            |token, row| {
                ops::rms_norm(&x[token * width..(token + 1) * width], weight, eps, row);
            },
        );
        Ok(())
    }

    /// `x += update`, row by row.
    pub(super) fn add(&self, update: &[f32], x: &mut [f32]) {
        let width = self.config().hidden_size;
        let grain = grain(x.len() / width, self.pool());
        self.pool().rows(x, width, grain, |token, row| {
            ops::axpy(1.0, &update[token * width..(token + 1) * width], row);
        });
    }
}
