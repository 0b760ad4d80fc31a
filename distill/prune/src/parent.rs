//! The parent as a model, with the text that goes through it.

use std::path::Path;

use burn::tensor::Device;
use retort_format::ModelConfig;
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;

use crate::activation_scores::activation_scores;
use crate::error::{Error, Result};
use crate::importance::ImportanceScores;
use crate::layer_distances::{angular_distance, cosine_distance, layer_distances};
use crate::options::PruneOptions;
use crate::progress::Monitor;
use crate::text::CalibrationText;

/// The parent as a model, with the text that goes through it.
pub(crate) struct CalibratedParent<'a> {
    model: Decoder,
    /// The text.
    pub text: CalibrationText,
    device: &'a Device,
}

impl<'a> CalibratedParent<'a> {
    /// Loads the model in `checkpoint` onto `device` and reads the calibration text.
    ///
    /// # Errors
    /// Anything wrong with either.
    pub(crate) fn load(
        checkpoint: &Path,
        parent: &ModelConfig,
        options: &PruneOptions,
        device: &'a Device,
    ) -> Result<Self> {
        let Some(source) = &options.calibration_text else {
            return Err(Error::option("data", "is missing"));
        };
        let tokenizer = Tokenizer::from_file(checkpoint, None)?;
        let seq_len = options.seq_len.clamp(1, parent.max_position_embeddings);
        let text = CalibrationText::read(source, &tokenizer, parent.vocab_size, seq_len)?;
        let (_, model) = retort_model::load(checkpoint, device)?;
        Ok(Self {
            model,
            text,
            device,
        })
    }

    /// The influence of each layer: 1 − cos between its input and its output.
    pub(crate) fn influence(&self, monitor: &Monitor<'_>) -> Result<Vec<f64>> {
        self.distances(1, cosine_distance, monitor)
    }

    /// The angular distance over `span` layers, from each layer on.
    pub(crate) fn angular_distances(&self, span: usize, monitor: &Monitor<'_>) -> Result<Vec<f64>> {
        self.distances(span, angular_distance, monitor)
    }

    fn distances(
        &self,
        span: usize,
        distance: fn(f64) -> f64,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<f64>> {
        let total = self.text.tokens() as u64;
        let mut progress = |done: usize| monitor.report("layers", done as u64, total);
        let (model, text) = (&self.model, &self.text);
        layer_distances(model, text, span, distance, self.device, &mut progress)
    }

    /// The scores of channels and heads in the kept `layers`.
    pub(crate) fn activation_scores(
        &self,
        layers: &[usize],
        monitor: &Monitor<'_>,
    ) -> Result<ImportanceScores> {
        let total = self.text.tokens() as u64;
        let mut progress = |done: usize| monitor.report("activations", done as u64, total);
        activation_scores(&self.model, layers, &self.text, self.device, &mut progress)
    }
}
