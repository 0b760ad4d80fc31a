//! Validation: the mean negative log-likelihood of the validation rows, in nats a token and
//! in bits a byte of their text.

use std::time::Instant;

use burn::tensor::Device;
use retort_data::EvalRows;
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use serde::Serialize;

use crate::batch_tensors::BatchTensors;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Mean loss in nats a token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text that they stand for; special tokens stand for none.
    pub bytes: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Validation {
    /// exp(loss).
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// Bits a byte of text: what models with different tokenizers can be compared by. What it
    /// costs to predict special tokens is in it. `None` where there is no text.
    pub fn bits_per_byte(&self) -> Option<f64> {
        let nats = self.loss * self.tokens as f64;
        (self.bytes > 0).then(|| nats / std::f64::consts::LN_2 / self.bytes as f64)
    }
}

/// Bytes of text that the targets in `rows` stand for.
pub fn target_bytes(rows: &EvalRows, tokenizer: &Tokenizer) -> u64 {
    let lengths = tokenizer.byte_lengths();
    let targets = rows.rows().iter().flat_map(|row| row.ids.iter().skip(1));
    targets
        .map(|&id| u64::from(lengths.get(id as usize).copied().unwrap_or(0)))
        .sum()
}

/// Runs `model` (without autodiff, on `device`) over every row of `rows`, whose targets stand
/// for `bytes` bytes of text, `batch_size` rows at a time, attention kept `within_documents` if
/// so. The losses are summed in f64 in the rows' order.
pub fn evaluate(
    model: &Decoder,
    rows: &EvalRows,
    bytes: u64,
    batch_size: usize,
    within_documents: bool,
    device: &Device,
) -> Validation {
    let start = Instant::now();
    let (mut sum, mut tokens) = (0.0, 0u64);
    for first in (0..rows.len()).step_by(batch_size) {
        let batch = rows.batch(first..rows.len().min(first + batch_size));
        let tensors = BatchTensors::new(&batch, device).within_documents(&batch, within_documents);
        let hidden = tensors.hidden(model);
        let loss: f32 = tensors.cross_entropy(model, hidden).into_scalar();
        sum += f64::from(loss) * tensors.tokens as f64;
        tokens += tensors.tokens as u64;
    }
    Validation {
        loss: sum / tokens.max(1) as f64,
        tokens,
        bytes,
        seconds: start.elapsed().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_do_not_depend_on_the_tokenizer() {
        let validation = |loss, tokens| Validation {
            loss,
            tokens,
            bytes: 80,
            seconds: 0.0,
        };
        // A bit a byte: eight bytes a token, or four.
        let (long, short) = (8.0 * std::f64::consts::LN_2, 4.0 * std::f64::consts::LN_2);
        assert_eq!(validation(long, 10).bits_per_byte(), Some(1.0));
        assert_eq!(validation(short, 20).bits_per_byte(), Some(1.0));
        let mut none = validation(long, 10);
        none.bytes = 0;
        assert_eq!(none.bits_per_byte(), None);
    }
}
