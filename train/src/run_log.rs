//! The run log: `metrics.jsonl`, TensorBoard's event file and `samples.jsonl`, in the run directory.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Result;
use crate::eval_hook::TaskEvaluation;
use crate::jsonl::JsonlFile;
use crate::metrics::{Evaluation, Metrics};
use crate::tensorboard::Events;

/// A prompt and the model's continuation.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// As in the recipe.
    pub prompt: String,
    /// The continuation.
    pub text: String,
}

/// The open files.
pub struct RunLog {
    run: PathBuf,
    step: u64,
    metrics: JsonlFile,
    events: Events,
    /// Opened with the first sample.
    samples: Option<JsonlFile>,
}

impl RunLog {
    /// Opens the files of `run` to go on after `step`. Lines of later steps, which are done again, are dropped.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let samples = run.join("samples.jsonl");
        Ok(Self {
            metrics: JsonlFile::open(&run.join("metrics.jsonl"), step)?,
            events: Events::open(run, step)?,
            samples: if samples.exists() {
                Some(JsonlFile::open(&samples, step)?)
            } else {
                None
            },
            run: run.to_owned(),
            step,
        })
    }

    /// A step.
    pub fn step(&mut self, m: &Metrics) -> Result<()> {
        self.metrics.write(m)?;
        let mut scalars = vec![
            ("train/loss", m.loss),
            ("train/lr", m.lr),
            ("train/grad_norm", m.grad_norm),
            ("train/tokens_per_second", m.tokens_per_second),
            ("train/skipped", m.skipped as f64),
        ];
        let parts: Vec<(String, f64)> = m
            .parts
            .iter()
            .filter_map(|(name, v)| Some((format!("train/{name}"), v.as_f64()?)))
            .collect();
        scalars.extend(parts.iter().map(|(name, v)| (name.as_str(), *v)));
        self.events.scalars(m.step, &scalars)
    }

    /// An evaluation.
    pub fn evaluation(&mut self, e: &Evaluation) -> Result<()> {
        self.metrics.write(e)?;
        let scalars = [
            ("validation/loss", Some(e.validation_loss)),
            ("validation/perplexity", Some(e.validation_perplexity)),
            ("validation/bits_per_byte", e.validation_bits_per_byte),
            ("validation/ema_loss", e.ema_validation_loss),
        ];
        let known: Vec<(&str, f64)> = scalars
            .into_iter()
            .filter_map(|(name, v)| Some((name, v?)))
            .collect();
        self.events.scalars(e.step, &known)
    }

    /// An evaluation on tasks.
    pub fn tasks(&mut self, e: &TaskEvaluation) -> Result<()> {
        self.metrics.write(e)?;
        let names = e
            .tasks
            .iter()
            .map(|(name, v)| (format!("tasks/{name}"), *v));
        let named: Vec<(String, f64)> = names.collect();
        let scalars: Vec<(&str, f64)> = named.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.events.scalars(e.step, &scalars)
    }

    /// A sample.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        let file = match &mut self.samples {
            Some(file) => file,
            none => none.insert(JsonlFile::open(&self.run.join("samples.jsonl"), self.step)?),
        };
        file.write(sample)
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<()> {
        self.metrics.sync()?;
        self.samples.as_ref().map_or(Ok(()), JsonlFile::sync)
    }
}
