//! `metrics.jsonl`: one JSON object a line, one line a step, and one an evaluation.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::evaluate::Validation;

/// One training step.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Steps done, this one included.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// The objective, in nats a token.
    pub loss: f64,
    /// The learning rate of this update.
    pub lr: f64,
    /// The norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Batches passed over so far, as spoilt.
    pub skipped: u64,
    /// Throughput of this step.
    pub tokens_per_second: f64,
    /// Seconds trained so far, over all resumptions.
    pub seconds: f64,
    /// Seconds of this step that were spent waiting for data.
    pub data_seconds: f64,
    /// Bytes that all ranks together sent since the step before, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// The objective's named parts.
    #[serde(flatten)]
    pub parts: Map<String, Value>,
}

/// One evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Mean loss of the weights on the validation rows, in nats a token.
    pub validation_loss: f64,
    /// Its exponential.
    pub validation_perplexity: f64,
    /// Bits a byte of the rows' text.
    pub validation_bits_per_byte: Option<f64>,
    /// The same loss of the averaged weights, where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_validation_loss: Option<f64>,
    /// Their bits a byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_validation_bits_per_byte: Option<f64>,
    /// Tokens predicted.
    pub validation_tokens: u64,
    /// Wall-clock seconds, of both.
    pub validation_seconds: f64,
}

impl Evaluation {
    /// What `model`'s and its average's validations say after `step`.
    pub fn new(step: u64, tokens: u64, model: &Validation, ema: Option<&Validation>) -> Self {
        Self {
            step,
            tokens,
            validation_loss: model.loss,
            validation_perplexity: model.perplexity(),
            validation_bits_per_byte: model.bits_per_byte(),
            ema_validation_loss: ema.map(|v| v.loss),
            ema_validation_bits_per_byte: ema.and_then(Validation::bits_per_byte),
            validation_tokens: model.tokens,
            validation_seconds: model.seconds + ema.map_or(0.0, |v| v.seconds),
        }
    }
}
