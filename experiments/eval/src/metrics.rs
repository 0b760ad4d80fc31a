//! A run's `metrics.jsonl`: one JSON object a line, a training step (`step`, `tokens`, `loss`,
//! `lr`, `grad_norm`, `tokens_per_second`, `seconds`) or an evaluation (`step`, `tokens`,
//! `validation_loss`, `seconds`) or an examination (`step`, `tokens`, `tasks`). Losses are in nats per token. Other keys are ignored.
//!
//! A run that was killed may leave its last line torn: a last line without a newline that does not
//! parse is passed over. A run that was resumed may have written some steps twice: the later ones
//! stand. Beside it, where there is one, the `recipe.toml` that the run resolved.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// One line of the file; a number that was not finite is absent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Record {
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
    /// Figures of likelihood tasks, as `arc_easy/acc`.
    pub tasks: Option<BTreeMap<String, f64>>,
}

/// What one run has written.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The run directory's name.
    pub name: String,
    /// Training steps, by step.
    pub steps: Vec<Record>,
    /// Evaluations, by step.
    pub evaluations: Vec<Record>,
    /// Examinations on likelihood tasks, by step.
    pub examinations: Vec<Record>,
    /// The resolved recipe, `train.lr` to `0.0003`; empty where the run directory has none.
    pub recipe: BTreeMap<String, String>,
}

impl Run {
    /// Reads `metrics.jsonl` in the run directory `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, [`Error::Line`] for a line that is no record,
    /// [`Error::Empty`] if there is none, [`Error::Recipe`] for a `recipe.toml` that is no TOML.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read the metrics", e))?;
        let (mut steps, mut evaluations, mut examinations) = (Vec::new(), Vec::new(), Vec::new());
        let mut lines = bytes.split(|&byte| byte == b'\n').enumerate().peekable();
        while let Some((i, line)) = lines.next() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if record.validation_loss.is_some() => put(&mut evaluations, record),
                Ok(record) if record.tasks.is_some() => put(&mut examinations, record),
                Ok(record) => put(&mut steps, record),
                // What follows the last newline.
                Err(_) if lines.peek().is_none() => {}
                Err(e) => {
                    return Err(Error::Line {
                        path,
                        line: i + 1,
                        reason: e.to_string(),
                    });
                }
            }
        }
        if steps.is_empty() && evaluations.is_empty() {
            return Err(Error::Empty { path });
        }
        Ok(Self {
            name: name(dir),
            steps,
            evaluations,
            examinations,
            recipe: recipe(dir)?,
        })
    }
}

/// The keys of `recipe.toml` in `dir`, tables joined to their keys by points.
fn recipe(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join("recipe.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::io(&path, "read the recipe", e)),
    };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::Recipe {
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
fn put(records: &mut Vec<Record>, record: Record) {
    let keep = records.partition_point(|earlier| earlier.step < record.step);
    records.truncate(keep);
    records.push(record);
}

/// The last component of the path, of the resolved one if need be (`.` has none).
fn name(dir: &Path) -> String {
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
/// As [`Run::read`].
pub fn read_all<P: AsRef<Path>>(dirs: &[P]) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let mut run = Run::read(dir.as_ref())?;
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
