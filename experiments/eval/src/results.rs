//! Joins the JSON of `retort eval --json` and `retort-edge bench --json` by the model's path.
//!
//! ```text
//! {"results", "n-shot", "config": {"model", "model_bytes"}}      accuracies, 0 to 1
//! {"model", "model_bytes", "tpot_seconds", "peak_rss_bytes", …}  seconds, bytes, tokens a second
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The results of a model, from any number of files.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelResults {
    /// The model's path, as it was given to the commands.
    pub path: String,
    /// Its file name without the extension; the path where another model has the same.
    pub name: String,
    /// Size of its file.
    pub bytes: Option<u64>,
    /// By task.
    pub accuracies: BTreeMap<String, Accuracy>,
    /// The speed and memory by `retort-edge bench`.
    pub speed: Option<Speed>,
}

/// The accuracy on a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// `acc_norm` where the task has it, else `acc`, `exact_match`, `f1` or `pass@1`.
    pub metric: &'static str,
    /// 0 to 1.
    pub value: f64,
    /// Standard error, where there is one.
    pub stderr: Option<f64>,
}

/// Speed and memory, as `retort-edge bench` measures them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Speed {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens decoded after it.
    pub generated_tokens: u64,
    /// Threads of the computation.
    pub threads: u64,
    /// Weights, embeddings among them.
    pub parameters: u64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Decoded tokens a second.
    pub decode_tokens_per_second: f64,
    /// From the prompt to the first token.
    pub ttft_seconds: f64,
    /// From one token to the next.
    pub tpot_seconds: f64,
    /// Of every repetition.
    pub tpot_seconds_values: Vec<f64>,
    /// Most memory held.
    pub peak_rss_bytes: Option<u64>,
    /// Most address space held.
    pub peak_vms_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct EvalFile {
    results: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// Only whole tasks have it, not the groups within one.
    #[serde(rename = "n-shot")]
    shots: BTreeMap<String, u64>,
    config: ModelKey,
}

#[derive(Deserialize)]
struct ModelKey {
    model: String,
    model_bytes: Option<u64>,
}

/// The metrics that count as a task's accuracy, in order of preference.
const METRICS: [&str; 5] = ["acc_norm", "acc", "exact_match", "f1", "pass@1"];

/// Reads the files and joins those of one model; models come in the order of their first file.
///
/// # Errors
///
/// [`Error::Io`] if a file cannot be read, [`Error::File`] if it holds neither kind of results, or
/// impossible ones.
pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Vec<ModelResults>> {
    let mut models: Vec<ModelResults> = Vec::new();
    for path in files {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path, "read the figures"))?;
        let value: std::result::Result<Value, _> = serde_json::from_slice(&bytes);
        value
            .map_err(|e| e.to_string())
            .and_then(|value| add(&mut models, value))
            .map_err(|reason| Error::File {
                path: path.to_owned(),
                reason,
            })?;
    }
    let names: Vec<String> = models.iter().map(|model| stem(&model.path)).collect();
    for (i, model) in models.iter_mut().enumerate() {
        let shared = names.iter().filter(|name| **name == names[i]).count() > 1;
        model.name = if shared {
            model.path.clone()
        } else {
            names[i].clone()
        };
    }
    Ok(models)
}

fn add(models: &mut Vec<ModelResults>, value: Value) -> std::result::Result<(), String> {
    let wrong = |e: serde_json::Error| e.to_string();
    if value.get("results").is_some() {
        let found: EvalFile = serde_json::from_value(value).map_err(wrong)?;
        let model = entry(models, &found.config)?;
        for task in found.shots.into_keys() {
            let figures = found.results.get(&task);
            let figure = |name: &str| figures.and_then(|f| f.get(name).copied().flatten());
            let Some(metric) = METRICS.into_iter().find(|metric| figure(metric).is_some()) else {
                continue;
            };
            let value = figure(metric).unwrap_or_default();
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{task}: {metric} is {value}, and has to be 0 to 1"));
            }
            let stderr = figure(&format!("{metric}_stderr"));
            model.accuracies.insert(
                task,
                Accuracy {
                    metric,
                    value,
                    stderr,
                },
            );
        }
        return Ok(());
    }
    if value.get("tpot_seconds").is_some() {
        let of: ModelKey = serde_json::from_value(value.clone()).map_err(wrong)?;
        let speed: Speed = serde_json::from_value(value).map_err(wrong)?;
        let rates = [
            speed.prefill_tokens_per_second,
            speed.decode_tokens_per_second,
        ];
        let times = [speed.ttft_seconds, speed.tpot_seconds];
        if !rates
            .iter()
            .chain(&times)
            .all(|v| v.is_finite() && *v > 0.0)
        {
            return Err("times and tokens a second have to be above 0".into());
        }
        entry(models, &of)?.speed = Some(speed);
        return Ok(());
    }
    Err("neither figures of `retort eval --json` nor of `retort-edge bench --json`".into())
}

/// The entry of a model, made if it is new.
fn entry<'a>(
    models: &'a mut Vec<ModelResults>,
    of: &ModelKey,
) -> std::result::Result<&'a mut ModelResults, String> {
    let at = match models.iter().position(|model| model.path == of.model) {
        Some(at) => at,
        None => {
            models.push(ModelResults {
                path: of.model.clone(),
                name: String::new(),
                bytes: None,
                accuracies: BTreeMap::new(),
                speed: None,
            });
            models.len() - 1
        }
    };
    let model = &mut models[at];
    match (model.bytes, of.model_bytes) {
        (Some(a), Some(b)) if a != b => {
            let path = &of.model;
            return Err(format!(
                "{path} has {b} bytes here and {a} in another file: measure it again"
            ));
        }
        (known, new) => model.bytes = known.or(new),
    }
    Ok(model)
}

fn stem(path: &str) -> String {
    let stem = Path::new(path).file_stem();
    stem.map_or_else(
        || path.to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}
