//! A training run read from its directory: `metrics.jsonl`, and `recipe.toml` where there is one.
//!
//! `metrics.jsonl` has one JSON object a line: a training step (`step`, `tokens`, `loss`, `lr`,
//! `grad_norm`, `tokens_per_second`, `seconds`), an evaluation of the loss (`step`, `tokens`,
//! `validation_loss`, `seconds`), or an evaluation on tasks (`step`, `tokens`, `tasks`). Losses are in
//! nats a token. Other keys are ignored.
//!
//! A killed run may leave its last line torn: a last line without newline that does not parse is
//! ignored. A resumed run may have written some steps twice: the later ones count.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A line of `metrics.jsonl`; a number that was not finite is absent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MetricsRecord {
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Training loss of the step.
    pub loss: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Norm of the gradient before clipping.
    pub grad_norm: Option<f64>,
    /// Training speed.
    pub tokens_per_second: Option<f64>,
    /// Wall time since the run's start.
    pub seconds: Option<f64>,
    /// Loss on the validation split.
    pub validation_loss: Option<f64>,
    /// Metrics of tasks, as `arc_easy/acc`.
    pub tasks: Option<BTreeMap<String, f64>>,
}

/// The records of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRun {
    /// The run directory's name.
    pub name: String,
    /// Training steps, by step.
    pub steps: Vec<MetricsRecord>,
    /// Evaluations of the loss, by step.
    pub evaluations: Vec<MetricsRecord>,
    /// Evaluations on tasks, by step.
    pub task_evaluations: Vec<MetricsRecord>,
    /// The resolved recipe, `train.lr` to `0.0003`; empty where the run directory has none.
    pub recipe: BTreeMap<String, String>,
}

impl TrainingRun {
    /// Reads `metrics.jsonl` in the run directory `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, [`Error::MetricsLine`] for a line that is no record,
    /// [`Error::EmptyRun`] if there is none, [`Error::File`] for a `recipe.toml` that is no TOML.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read the metrics"))?;
        let (mut steps, mut evaluations, mut task_evaluations) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut lines = bytes.split(|&byte| byte == b'\n').enumerate().peekable();
        while let Some((i, line)) = lines.next() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<MetricsRecord>(line) {
                Ok(record) if record.validation_loss.is_some() => append(&mut evaluations, record),
                Ok(record) if record.tasks.is_some() => append(&mut task_evaluations, record),
                Ok(record) => append(&mut steps, record),
                // The torn text after the last newline.
                Err(_) if lines.peek().is_none() => {}
                Err(e) => {
                    return Err(Error::MetricsLine {
                        path,
                        line: i + 1,
                        reason: e.to_string(),
                    });
                }
            }
        }
        if steps.is_empty() && evaluations.is_empty() {
            return Err(Error::EmptyRun { path });
        }
        Ok(Self {
            name: run_name(dir),
            steps,
            evaluations,
            task_evaluations,
            recipe: read_recipe(dir)?,
        })
    }
}

/// The keys of `recipe.toml` in `dir`, tables joined to their keys by points.
fn read_recipe(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join("recipe.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::io(&path, "read the recipe")(e)),
    };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::File {
        path,
        reason: e.to_string(),
    })?;
    let mut keys = BTreeMap::new();
    let mut tables = vec![(String::new(), table)];
    while let Some((before, table)) = tables.pop() {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => tables.push((format!("{before}{key}."), inner)),
                value => {
                    keys.insert(format!("{before}{key}"), value.to_string());
                }
            }
        }
    }
    Ok(keys)
}

/// Appends `record`, which replaces every record from its step on.
fn append(records: &mut Vec<MetricsRecord>, record: MetricsRecord) {
    let keep = records.partition_point(|earlier| earlier.step < record.step);
    records.truncate(keep);
    records.push(record);
}

/// The last component of the path, of the resolved one if need be (`.` has none).
fn run_name(dir: &Path) -> String {
    let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().or(resolved.file_name());
    name.map_or_else(
        || dir.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Reads several runs and makes their names distinct.
///
/// # Errors
///
/// As [`TrainingRun::read`].
pub fn read_all<P: AsRef<Path>>(dirs: &[P]) -> Result<Vec<TrainingRun>> {
    let mut runs: Vec<TrainingRun> = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let mut run = TrainingRun::read(dir.as_ref())?;
        let plain = run.name.clone();
        let mut number = 2;
        while runs.iter().any(|other| other.name == run.name) {
            run.name = format!("{plain} ({number})");
            number += 1;
        }
        runs.push(run);
    }
    Ok(runs)
}
