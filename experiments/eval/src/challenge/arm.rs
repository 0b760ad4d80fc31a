//! The Arm challenge: AICAS 2024's grand challenge, inference of a language model on an Arm CPU.
//!
//! The score is a weighted sum of terms from 0 to 1: accuracy on three tasks between bounds, and the
//! shares of a baseline's memory and time that are saved. The challenge normalised times and memory
//! over its contestants, which a single report does not know; here the baseline takes their place.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{required, speed};
use crate::error::{Error, Result};
use crate::results::ModelResults;

/// The tasks, and the accuracy of chance.
pub const TASKS: [(&str, f64); 3] = [("arc_challenge", 0.25), ("hellaswag", 0.25), ("piqa", 0.5)];
/// Prompt tokens, generated tokens, repetitions.
pub const PROTOCOL: (u64, u64, usize) = (560, 50, 10);

/// The accuracies that count 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// This and everything below counts 0.
    pub low: f64,
    /// This and everything above counts 1.
    pub high: f64,
}

/// The weights of the terms; they add to 1.
pub const WEIGHTS: Terms = Terms {
    accuracy: 0.30,
    resident_memory: 0.15,
    virtual_memory: 0.15,
    prefill: 0.15,
    decode: 0.25,
};

/// The terms of the score, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Terms {
    /// Mean over the tasks of the accuracy's position between its bounds.
    pub accuracy: f64,
    /// Saved share of the baseline's resident memory.
    pub resident_memory: f64,
    /// Saved share of its address space.
    pub virtual_memory: f64,
    /// Saved share of its time for a prompt token.
    pub prefill: f64,
    /// Saved share of its time for a decoded token.
    pub decode: f64,
}

impl Terms {
    /// The score, 0 to 1: this is the one formula.
    pub fn score(&self) -> f64 {
        WEIGHTS.accuracy * self.accuracy
            + WEIGHTS.resident_memory * self.resident_memory
            + WEIGHTS.virtual_memory * self.virtual_memory
            + WEIGHTS.prefill * self.prefill
            + WEIGHTS.decode * self.decode
    }
}

/// The score of a model beside its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmReport {
    /// The model's path.
    pub model: String,
    /// The baseline's path.
    pub baseline: String,
    /// The model's accuracy by task.
    pub accuracies: BTreeMap<&'static str, f64>,
    /// The baseline's, for the tasks it was evaluated on.
    pub baseline_accuracies: BTreeMap<&'static str, f64>,
    /// The bounds by task.
    pub bounds: BTreeMap<&'static str, Bounds>,
    /// The file's size, as a share of the baseline's.
    pub compression_rate: f64,
    /// The model's resident memory, bytes.
    pub rss_bytes: u64,
    /// Its address space, bytes.
    pub vms_bytes: u64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Decoded tokens a second.
    pub decode_tokens_per_second: f64,
    /// Prefill's throughput over the baseline's.
    pub prefill_gain: f64,
    /// Decoding's throughput over the baseline's.
    pub decode_gain: f64,
    /// The baseline's time to the first token over the model's.
    pub latency_gain: f64,
    /// The terms of the score.
    pub terms: Terms,
    /// Their weights.
    pub weights: Terms,
    /// Their weighted sum.
    pub score: f64,
}

/// Scores `model` against `baseline`. `bounds` are by task; a task that is not in them counts from chance to
/// the baseline's accuracy.
///
/// # Errors
///
/// [`Error::Challenge`] for figures that are missing, that were not taken with [`PROTOCOL`], or bounds that
/// leave no room between them.
pub fn score(
    model: &ModelResults,
    baseline: &ModelResults,
    bounds: &BTreeMap<String, Bounds>,
) -> Result<ArmReport> {
    for one in [model, baseline] {
        check_protocol(one)?;
    }
    let is_task = |name: &str| TASKS.iter().any(|(task, _)| *task == name);
    if let Some(unknown) = bounds.keys().find(|name| !is_task(name)) {
        let reason = format!("bounds for {unknown}, which is none of the contest's tasks");
        return Err(Error::challenge(&model.path, reason));
    }
    let (mut accuracies, mut baseline_accuracies, mut used) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut placed = 0.0;
    for (task, chance) in TASKS {
        let path = &model.path;
        let Some(accuracy) = model.accuracies.get(task) else {
            let remedy = format!("`retort eval {path} --tasks {task} --json …`");
            let reason = format!("{task} is not among the figures: {remedy}");
            return Err(Error::challenge(path, reason));
        };
        let of_baseline = baseline.accuracies.get(task).map(|a| a.value);
        baseline_accuracies.extend(of_baseline.map(|value| (task, value)));
        let between = match (bounds.get(task), of_baseline) {
            (Some(given), _) => *given,
            (None, Some(high)) => Bounds { low: chance, high },
            (None, None) => {
                let remedy = "evaluate it, or give the task's bounds";
                let reason = format!("{task} is not among its figures: {remedy}");
                return Err(Error::challenge(&baseline.path, reason));
            }
        };
        let Bounds { low, high } = between;
        if high <= low {
            let reason = format!("{task}: its bounds, {low} to {high}, leave no room: give others");
            return Err(Error::challenge(path, reason));
        }
        accuracies.insert(task, accuracy.value);
        used.insert(task, between);
        placed += ((accuracy.value - low) / (high - low)).clamp(0.0, 1.0);
    }
    let (ours, theirs) = (speed(model)?, speed(baseline)?);
    let rss = required(ours.peak_rss_bytes, model, "peak_rss_bytes")?;
    let vms = required(ours.peak_vms_bytes, model, "peak_vms_bytes")?;
    let saved = |ours: f64, theirs: f64| (1.0 - ours / theirs).clamp(0.0, 1.0);
    let terms = Terms {
        accuracy: placed / TASKS.len() as f64,
        resident_memory: saved(
            rss as f64,
            required(theirs.peak_rss_bytes, baseline, "peak_rss_bytes")? as f64,
        ),
        virtual_memory: saved(
            vms as f64,
            required(theirs.peak_vms_bytes, baseline, "peak_vms_bytes")? as f64,
        ),
        prefill: saved(
            ours.prefill_tokens_per_second.recip(),
            theirs.prefill_tokens_per_second.recip(),
        ),
        decode: saved(ours.tpot_seconds, theirs.tpot_seconds),
    };
    let sizes = (
        required(model.bytes, model, "model_bytes")?,
        required(baseline.bytes, baseline, "model_bytes")?,
    );
    Ok(ArmReport {
        model: model.path.clone(),
        baseline: baseline.path.clone(),
        accuracies,
        baseline_accuracies,
        bounds: used,
        compression_rate: sizes.0 as f64 / sizes.1 as f64,
        rss_bytes: rss,
        vms_bytes: vms,
        prefill_tokens_per_second: ours.prefill_tokens_per_second,
        decode_tokens_per_second: ours.decode_tokens_per_second,
        prefill_gain: ours.prefill_tokens_per_second / theirs.prefill_tokens_per_second,
        decode_gain: ours.decode_tokens_per_second / theirs.decode_tokens_per_second,
        latency_gain: theirs.ttft_seconds / ours.ttft_seconds,
        score: terms.score(),
        terms,
        weights: WEIGHTS,
    })
}

/// Whether the speed of `model` was measured with [`PROTOCOL`].
fn check_protocol(model: &ModelResults) -> Result<()> {
    let speed = speed(model)?;
    let reps = speed.tpot_seconds_values.len();
    let found = (speed.prompt_tokens, speed.generated_tokens, reps);
    if found == PROTOCOL {
        return Ok(());
    }
    let (path, (prompt, generated, reps)) = (&model.path, PROTOCOL);
    let reason = format!(
        "its speed was measured with {} prompt tokens, {} generated and {} repetitions; the contest \
         asks for `retort-edge bench {path} --prompt {prompt} --gen {generated} --reps {reps} --json`",
        found.0, found.1, found.2
    );
    Err(Error::challenge(path, reason))
}
