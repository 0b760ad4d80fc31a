//! The edge-LLM challenge's compression track: accuracy over seven tasks, time a token and parameters
//! of a model within 12 GB of memory.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{required, speed};
use crate::error::Result;
use crate::results::ModelResults;

/// The tasks, by their names here.
pub const TASKS: [&str; 7] = [
    "commonsense_qa",
    "bbh",
    "gsm8k",
    "longbench",
    "humaneval",
    "chid",
    "truthfulqa_mc2",
];
/// A task here that replaces one of them; it counts where both were evaluated.
const REPLACEMENTS: [(&str, &str); 1] = [("bbh", "bbh_cot")];
/// Most resident memory.
pub const MEMORY_LIMIT_BYTES: u64 = 12_000_000_000;

/// The report on a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeLlmReport {
    /// The model's path.
    pub model: String,
    /// By task, of the evaluated ones.
    pub accuracies: BTreeMap<&'static str, f64>,
    /// Tasks of the challenge without results.
    pub missing: Vec<&'static str>,
    /// Over the evaluated tasks; none without any.
    pub mean_accuracy: Option<f64>,
    /// Seconds from one token to the next.
    pub tpot_seconds: f64,
    /// Weights, embeddings among them.
    pub parameters: u64,
    /// Most memory held, bytes.
    pub peak_rss_bytes: u64,
    /// Whether `peak_rss_bytes` is within [`MEMORY_LIMIT_BYTES`].
    pub within_memory: bool,
}

/// Reports on `model`.
///
/// # Errors
///
/// [`crate::Error::Challenge`] without figures of speed and memory.
pub fn score(model: &ModelResults) -> Result<EdgeLlmReport> {
    let found = speed(model)?;
    let peak = required(found.peak_rss_bytes, model, "peak_rss_bytes")?;
    let accuracy = |task: &str| {
        let replacement = REPLACEMENTS.iter().find(|(name, _)| *name == task);
        let found = replacement.and_then(|(_, other)| model.accuracies.get(*other));
        found.or(model.accuracies.get(task)).map(|a| a.value)
    };
    let accuracies: BTreeMap<_, _> = (TASKS.into_iter())
        .filter_map(|task| Some((task, accuracy(task)?)))
        .collect();
    let mean = accuracies.values().sum::<f64>() / accuracies.len().max(1) as f64;
    Ok(EdgeLlmReport {
        model: model.path.clone(),
        missing: (TASKS.into_iter())
            .filter(|task| !accuracies.contains_key(task))
            .collect(),
        mean_accuracy: (!accuracies.is_empty()).then_some(mean),
        accuracies,
        tpot_seconds: found.tpot_seconds,
        parameters: found.parameters,
        peak_rss_bytes: peak,
        within_memory: peak <= MEMORY_LIMIT_BYTES,
    })
}
