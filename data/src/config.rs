//! `[data]` of a recipe: which text, through which tokenizer, cut into rows how long.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::source_options::SourceOptions;

/// `[data]`. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Parquet or JSON-lines files: a file, a glob, a directory, `hf://OWNER/NAME/CONFIG@REVISION`;
    /// or a directory that `retort data pack` wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Several sources instead of one, mixed row by row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture: Vec<Weighted>,
    /// A `tokenizer.json`, or a directory that holds one.
    pub tokenizer: PathBuf,
    /// Inputs in a row.
    pub seq_len: usize,
    /// How documents become rows.
    #[serde(default)]
    pub packing: Packing,
    /// Which documents are left out.
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub filter: Filter,
    /// Documents that are shuffled among themselves; also the pool that best-fit packing draws on.
    #[serde(default = "default_window")]
    pub shuffle_window: usize,
    /// What to do about a damaged row group or line.
    #[serde(default)]
    pub on_damage: OnDamage,
    /// Share of the documents, chosen by the hash of their text, kept for validation.
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,
    /// Seed of the order of shards, row groups and documents; the split does not depend on it.
    #[serde(default)]
    pub seed: u64,
    /// Validation rows, taken from the sources' beginnings: reading stops when they are found.
    #[serde(default = "default_validation_rows")]
    pub max_validation_rows: usize,
    /// Split of a hub dataset.
    #[serde(default = "default_split", skip_serializing_if = "is_default_split")]
    pub split: String,
    /// Bytes of hub shards to keep on disk at a time; what was read is removed for what comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_budget: Option<u64>,
    /// Threads that tokenize; the batches do not depend on it. 0: one for each core.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub threads: usize,
}

/// One source of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// As `data.source`.
    pub source: String,
    /// Share of the rows, relative to the other weights.
    pub weight: f64,
}

/// How documents become rows of `seq_len + 1` ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Concatenated, an end-of-text id after each, and cut: every token is used, and most rows start
    /// in the middle of a document.
    #[default]
    Concat,
    /// Every row starts with a document and holds whole documents only; one longer than a row is
    /// cropped, and what stays empty is padded.
    BestFit,
}

/// Which documents are left out; a bound that is not named is not applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Shortest text kept, in UTF-8 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<usize>,
    /// Longest text kept, in UTF-8 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Smallest share of ASCII letters among the characters other than white space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ascii_letters: Option<f64>,
    /// Keeps only the first of documents with the same text, in the sources' own order. A pass over
    /// all text goes before the first batch; what it finds is kept beside the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_duplicates: bool,
}

impl Filter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What to do about a damaged row group or line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDamage {
    /// End with an error that names it.
    #[default]
    Stop,
    /// Leave out what cannot be read, and count it.
    Skip,
}

fn default_window() -> usize {
    2048
}
fn default_validation_fraction() -> f64 {
    0.01
}
fn default_validation_rows() -> usize {
    256
}
fn default_split() -> String {
    SourceOptions::default().split
}
fn is_default_split(split: &String) -> bool {
    *split == default_split()
}
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl DataConfig {
    /// Checks the values that need no file.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field, reason: &str| Err(Error::config(field, reason));
        if self.seq_len == 0 || self.seq_len > 1 << 24 {
            return wrong("seq_len", "must be from 1 to 16,777,216");
        }
        match (self.source.is_empty(), self.mixture.is_empty()) {
            (true, true) => {
                return wrong(
                    "source",
                    "is missing; name a source, or several in data.mixture",
                );
            }
            (false, false) => {
                return wrong("mixture", "stands beside data.source; keep one of them");
            }
            _ => {}
        }
        if !self
            .mixture
            .iter()
            .all(|m| m.weight > 0.0 && m.weight.is_finite())
        {
            return wrong("mixture", "has a weight that is not a positive number");
        }
        if !(0.0..1.0).contains(&self.validation_fraction) {
            return wrong("validation_fraction", "must be at least 0 and less than 1");
        }
        if self.shuffle_window == 0 {
            return wrong("shuffle_window", "is 0; 1 keeps the documents' order");
        }
        let filter = &self.filter;
        if filter
            .min_ascii_letters
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            return wrong("filter.min_ascii_letters", "must be from 0 to 1");
        }
        if filter.min_bytes > filter.max_bytes && filter.max_bytes.is_some() {
            return wrong("filter.min_bytes", "is more than data.filter.max_bytes");
        }
        Ok(())
    }

    /// The sources and their shares of the rows, which add up to 1.
    pub fn sources(&self) -> Vec<Weighted> {
        if self.mixture.is_empty() {
            return vec![Weighted {
                source: self.source.clone(),
                weight: 1.0,
            }];
        }
        let sum: f64 = self.mixture.iter().map(|m| m.weight).sum();
        let share = |m: &Weighted| Weighted {
            source: m.source.clone(),
            weight: m.weight / sum,
        };
        self.mixture.iter().map(share).collect()
    }

    /// What the hub needs to know.
    pub(crate) fn source_options(&self) -> SourceOptions {
        SourceOptions {
            split: self.split.clone(),
            disk_budget_bytes: self.disk_budget,
            ..SourceOptions::default()
        }
    }
}
