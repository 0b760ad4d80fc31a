//! A checkpoint read in parts, without a model: rows and columns of its tensors, each straight
//! from the mapped file.
//!
//! In: a Hugging Face directory, checked as a whole when it is opened. Out: any rows as f32,
//! or any rows and columns as bytes for [`write_weights`](crate::checkpoint::write_weights). Memory holds no more
//! than what was asked for.

use std::ops::Range;
use std::path::Path;

use crate::checkpoint::{self, SafetensorsMap};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::precision::Precision;
use crate::tensors::TensorSpec;

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
    /// As [`open`](crate::checkpoint::open).
    pub fn open(directory: &Path) -> Result<Self> {
        let (config, mapped) = checkpoint::open(directory)?;
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
    /// `spec` is not of [`tensors`](crate::tensors())`(self.config())`, or has fewer rows.
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
