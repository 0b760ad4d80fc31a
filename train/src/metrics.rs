//! `metrics.jsonl`: one JSON object a line, one line a step, and one an evaluation.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;

/// One training step.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Updates done, this one included.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// The objective, in nats a token.
    pub loss: f64,
    /// The learning rate of this update.
    pub lr: f64,
    /// The norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Throughput of this step.
    pub tokens_per_second: f64,
    /// Seconds trained so far, over all resumptions.
    pub seconds: f64,
    /// Seconds of this step that were spent waiting for data.
    pub data_seconds: f64,
    /// The objective's named parts.
    #[serde(flatten)]
    pub parts: serde_json::Map<String, Value>,
}

/// The open file.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens `run/metrics.jsonl`, dropping lines past `step`: steps after the checkpoint
    /// that a resumed run starts from are done again.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| {
                    serde_json::from_str::<Value>(line)
                        .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step))
                })
                .collect();
            files::write_atomic(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends one line.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("metrics have string keys");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(Error::io(&self.path))
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))
    }
}

/// The evaluations in `run/metrics.jsonl`: `(step, tokens, validation loss in nats)`.
///
/// # Errors
/// The file cannot be read.
pub fn read_validation(run: &Path) -> Result<Vec<(u64, u64, f64)>> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let v: Value = serde_json::from_str(line).ok()?;
            Some((
                v["step"].as_u64()?,
                v["tokens"].as_u64()?,
                v["validation_loss"].as_f64()?,
            ))
        })
        .collect())
}
