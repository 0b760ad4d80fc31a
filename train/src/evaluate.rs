//! Validation: the mean negative log-likelihood of the validation rows, in nats a token.

use std::time::Instant;

use burn::tensor::Device;
use retort_data::RowSet;
use retort_model::Decoder;
use serde::Serialize;

use crate::objective::BatchTensors;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validation {
    /// Mean loss in nats a token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Validation {
    /// exp(loss).
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// Runs `model` (without autodiff, on `device`) over every row of `rows`, `batch_size`
/// rows at a time, attention kept `within_documents` if so. The losses are summed in f64 in the rows' order.
pub fn evaluate(
    model: &Decoder,
    rows: &RowSet,
    batch_size: usize,
    within_documents: bool,
    device: &Device,
) -> Validation {
    let start = Instant::now();
    let (mut sum, mut tokens) = (0.0, 0u64);
    for first in (0..rows.len()).step_by(batch_size) {
        let batch = rows.batch(first..rows.len().min(first + batch_size));
        let tensors = BatchTensors::new(&batch, device).within_documents(&batch, within_documents);
        let loss: f32 = tensors.cross_entropy(model).into_scalar();
        sum += f64::from(loss) * tensors.tokens as f64;
        tokens += tensors.tokens as u64;
    }
    Validation {
        loss: sum / tokens.max(1) as f64,
        tokens,
        seconds: start.elapsed().as_secs_f64(),
    }
}
