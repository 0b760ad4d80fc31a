//! The `[data]` table of a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What to train on: where the text is, how it is tokenized, cut and split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A parquet file, a glob or a directory; see [`resolve`](crate::resolve).
    pub source: String,
    /// A `tokenizer.json`, or a directory that holds one.
    pub tokenizer: PathBuf,
    /// Inputs in a row; a row takes `seq_len + 1` ids.
    pub seq_len: usize,
    /// Share of the documents, chosen by the hash of their text, kept for validation.
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,
    /// Seed of the order of rows; the split does not depend on it.
    #[serde(default)]
    pub seed: u64,
    /// Reads no more than this many documents, validation included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<usize>,
    /// Keeps no more than this many validation rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_validation_rows: Option<usize>,
}

fn default_validation_fraction() -> f64 {
    0.01
}

impl DataConfig {
    /// Checks the values that need no file.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field, reason: &str| {
            Err(Error::Config {
                field,
                reason: reason.into(),
            })
        };
        if self.seq_len == 0 {
            return wrong("seq_len", "is 0; give at least 1");
        }
        if !(0.0..1.0).contains(&self.validation_fraction) {
            return wrong("validation_fraction", "must be at least 0 and less than 1");
        }
        if self.max_documents == Some(0) {
            return wrong("max_documents", "is 0; leave it out to read all documents");
        }
        Ok(())
    }
}
