//! The edge-LLM challenge's compression track: a small model under 12 GB of memory, by accuracy over
//! seven tasks, time a token and parameters.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{speed, told};
use crate::error::Result;
use crate::measured::Measured;

/// Its tasks, as they are called here.
pub const TASKS: [&str; 7] = [
    "commonsense_qa",
    "bbh",
    "gsm8k",
    "longbench",
    "humaneval",
    "chid",
    "truthfulqa_mc2",
];
/// Which other task of ours answers to one of them; it counts where both were asked.
const INSTEAD: [(&str, &str); 1] = [("bbh", "bbh_cot")];
/// Memory that a model may take.
pub const MEMORY_LIMIT_BYTES: u64 = 12_000_000_000;

/// Where a model stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model's path.
    pub model: String,
    /// By task, of those that were asked.
    pub accuracies: BTreeMap<&'static str, f64>,
    /// Tasks of the challenge that are not among the figures.
    pub missing: Vec<&'static str>,
    /// Over the tasks that were asked; none where none was.
    pub mean_accuracy: Option<f64>,
    /// Seconds from one token to the next.
    pub tpot_seconds: f64,
    /// Weights, embeddings among them.
    pub parameters: u64,
    /// Most memory held, bytes.
    pub peak_rss_bytes: u64,
    /// Whether that is within [`MEMORY_LIMIT_BYTES`].
    pub within_memory: bool,
}

/// Reports on `model`.
///
/// # Errors
///
/// [`crate::Error::Challenge`] without figures of speed and memory.
pub fn score(model: &Measured) -> Result<Report> {
    let found = speed(model)?;
    let peak = told(found.peak_rss_bytes, model, "peak_rss_bytes")?;
    let accuracy = |task: &str| {
        let instead = INSTEAD.iter().find(|(name, _)| *name == task);
        let found = instead.and_then(|(_, other)| model.accuracies.get(*other));
        found.or(model.accuracies.get(task)).map(|a| a.value)
    };
    let accuracies: BTreeMap<_, _> = (TASKS.into_iter())
        .filter_map(|task| Some((task, accuracy(task)?)))
        .collect();
    let mean = accuracies.values().sum::<f64>() / accuracies.len().max(1) as f64;
    Ok(Report {
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
