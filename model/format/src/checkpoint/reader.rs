//! A checkpoint read in parts, without a model: rows and columns of its tensors, each straight
//! from the mapped file.
//!
//! In: a Hugging Face directory, checked as a whole when it is opened. Out: any rows as f32,
//! or any rows and columns as bytes for [`write_weights`](crate::checkpoint::write_weights). Memory holds no more
//! than what was asked for.

use std::ops::Range;
use std::path::Path;

use super::safetensors::SafetensorsMap;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::param_key::ParamKey;
use crate::precision::Precision;
use crate::tensors::{TensorSpec, tensors};

/// The config in `directory` and its files mapped, every tensor found to be as the config says.
///
/// # Errors
/// A missing or damaged file, another architecture, or tensors that do not match `config.json`
/// (all of them named in one error).
pub fn open(directory: &Path) -> Result<(ModelConfig, SafetensorsMap)> {
    let path = directory.join("config.json");
    let mut config = ModelConfig::from_json_file(&path)?;
    let mut mapped = SafetensorsMap::open(directory)?;
    let [embedding, head] = [ParamKey::Embedding, ParamKey::Head].map(|key| key.tensor(&config));
    if !config.tie_word_embeddings && !mapped.contains(&head) {
        // Some exporters leave the flag out and simply drop the head.
        config.tie_word_embeddings = true;
    }
    if config.tie_word_embeddings && mapped.contains(&head) {
        // Others keep both; that is well where they are the same.
        if !mapped.equal(&embedding, &head) {
            let reason = format!(
                "field tie_word_embeddings: is true, but {head} differs from {embedding}: set it to false"
            );
            return Err(Error::format(&path, reason));
        }
        mapped.ignore(&head);
    }
    mapped.check(&tensors(&config))?;
    Ok((config, mapped))
}

/// How the weights in `directory` are stored (those of its largest tensor).
///
/// # Errors
/// A missing or damaged file.
pub fn stored_precision(directory: &Path) -> Result<Precision> {
    Ok(SafetensorsMap::open(directory)?.stored_precision())
}

/// An open checkpoint.
pub struct CheckpointReader {
    config: ModelConfig,
    precision: Precision,
    mapped: SafetensorsMap,
}

impl CheckpointReader {
    /// Opens the model in `directory`.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(directory: &Path) -> Result<Self> {
        let (config, mapped) = open(directory)?;
        Ok(Self {
            config,
            precision: mapped.stored_precision(),
            mapped,
        })
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How its weights are stored (those of the largest tensor).
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Rows `rows` of `spec`, row-major.
    ///
    /// # Panics
    /// `spec` is not of [`tensors`]`(self.config())`, or has fewer rows.
    pub fn rows(&self, spec: &TensorSpec, rows: Range<usize>) -> Vec<f32> {
        self.mapped.rows(spec, rows, false)
    }

    /// The elements of `spec` in the given `rows` and `columns`, in their order, times `scale`:
    /// row-major and little-endian in [`precision`](Self::precision). A vector has one column.
    /// Where `scale` is 1 the stored bits are kept.
    ///
    /// # Panics
    /// As [`rows`](Self::rows); a row or column that is not there.
    pub fn gather(
        &self,
        spec: &TensorSpec,
        rows: &[usize],
        columns: &[usize],
        scale: f32,
    ) -> Vec<u8> {
        self.mapped
            .gather(spec, [rows, columns], scale, self.precision)
    }
}
