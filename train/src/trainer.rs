//! The loop: batches in, updates, evaluations, metrics and checkpoints out.
//!
//! One step is `accumulate` forward and backward passes of `batch_size` sequences, their
//! gradients added, divided, clipped and applied. What a step does depends on the recipe
//! and the state only, never on the clock, so a run stopped anywhere and resumed ends in
//! the same weights.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use retort_data::{Loaded, Loader, Rank, RowSet};
use retort_model::Decoder;
use serde_json::{Value, json};

use crate::checkpoint::{self, Contents};
use crate::error::{Error, Result};
use crate::evaluate::{Validation, evaluate};
use crate::metrics::{Metrics, MetricsFile};
use crate::objective::{BatchTensors, Objective};
use crate::optimizer::clip;
use crate::recipe::TrainConfig;
use crate::run::Prepared;
use crate::schedule::learning_rate;

/// What the loop tells whoever shows progress.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a Metrics),
    /// The validation split was evaluated at a step.
    Evaluated(u64, Validation),
    /// A checkpoint is complete.
    Checkpoint(&'a std::path::Path),
}

/// How a call of [`train`] ended.
#[derive(Debug)]
pub struct Outcome {
    /// Updates done in all.
    pub step: u64,
    /// Tokens trained on in all.
    pub tokens: u64,
    /// Seconds trained in all, without data preparation and evaluation.
    pub seconds: f64,
    /// Whether `stop` ended it before the recipe's last step.
    pub stopped: bool,
    /// The checkpoint of the last step.
    pub checkpoint: PathBuf,
    /// The last evaluation, if there is a validation split and the run is complete.
    pub validation: Option<Validation>,
}

/// Trains until the recipe's last step, or until `stop` is set: then a checkpoint is
/// written after the current step and nothing is lost.
///
/// # Errors
/// A loss that is not a number; a file that cannot be written.
pub fn train(
    prepared: Prepared,
    objective: &dyn Objective,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let Prepared {
        recipe,
        run,
        device,
        tokenizer,
        data,
        config,
        mut model,
        mut optimizer,
        mut state,
    } = prepared;
    let t = &recipe.train;
    let mut metrics_file = MetricsFile::open(&run, state.step)?;
    let batches = data.batches(t.batch_size, Rank::default(), Some(&state.cursor))?;
    let mut loader = Loader::start(batches)?;
    let rows = data.validation();
    let mut last = None;
    let mut stopped = false;
    while state.step < t.steps && !stopped {
        let start = Instant::now();
        let mut accumulator = GradientsAccumulator::new();
        let mut sums: Vec<(&'static str, Tensor<1>)> = Vec::new();
        let loaded = load(&mut loader, t.accumulate)?;
        let tokens: usize = loaded.iter().map(|l| l.batch.tokens()).sum();
        // A token weighs the same in whatever part of the step it comes.
        let weight = t.accumulate as f32 / tokens.max(1) as f32;
        for loaded in &loaded {
            let batch = BatchTensors::weighted(&loaded.batch, weight, &device)
                .within_documents(&loaded.batch, t.document_attention);
            let loss = objective.loss(&model, &batch);
            let grads = GradientsParams::from_grads(loss.total.backward(), &model);
            accumulator.accumulate(&model, grads);
            let parts = std::iter::once(("loss", loss.total)).chain(loss.parts);
            add_parts(&mut sums, parts.map(|(n, v)| (n, v.inner())));
        }
        let share = 1.0 / t.accumulate as f64;
        let (grads, grad_norm) = clip(&model, accumulator.grads(), share, t.grad_clip);
        let mut means = sums
            .into_iter()
            .map(|(name, sum)| (name, f64::from(sum.into_scalar::<f32>()) * share));
        let loss = means.next().map_or(f64::NAN, |(_, loss)| loss);
        let parts = means.map(|(n, v)| (n.to_owned(), json!(v))).collect();
        let step = state.step + 1;
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::Diverged {
                step,
                loss: loss as f32,
            });
        }
        let lr = learning_rate(t, step);
        model = optimizer.step(lr, model, grads);
        device.sync().map_err(|e| Error::invalid(&run, e))?;

        let elapsed = start.elapsed().as_secs_f64();
        state.step = step;
        state.tokens += tokens as u64;
        state.seconds += elapsed;
        state.cursor = loaded[loaded.len() - 1].cursor.clone();
        let metrics = Metrics {
            step,
            tokens: state.tokens,
            loss,
            lr,
            grad_norm,
            tokens_per_second: tokens as f64 / elapsed,
            seconds: state.seconds,
            data_seconds: loaded.iter().map(|l| l.waited.as_secs_f64()).sum(),
            parts,
        };
        metrics_file.write(&metrics)?;
        on_event(Event::Step(&metrics));

        stopped = stop.load(Ordering::Relaxed) && step < t.steps;
        if (due(step, t.eval_every) || step == t.steps) && !rows.is_empty() {
            let validation = validate(&model, rows, t);
            metrics_file.write(&evaluation_line(step, state.tokens, &validation))?;
            on_event(Event::Evaluated(step, validation));
            last = Some(validation);
        }
        if due(step, t.checkpoint_every) || step == t.steps || stopped {
            metrics_file.sync()?;
            let contents = Contents {
                config: &config,
                model: &model,
                adapters: recipe.adapters(),
                tokenizer: &tokenizer,
                optimizer: &optimizer,
                state: &state,
            };
            let path = checkpoint::save(&run, &contents, t.keep_checkpoints)?;
            on_event(Event::Checkpoint(&path));
        }
    }
    let checkpoint = checkpoint::latest(&run)?
        .ok_or_else(|| Error::invalid(&run, "holds no checkpoint after training"))?;
    if last.is_none() && !stopped && !rows.is_empty() {
        last = Some(validate(&model, rows, t));
    }
    Ok(Outcome {
        step: state.step,
        tokens: state.tokens,
        seconds: state.seconds,
        stopped,
        checkpoint,
        validation: last,
    })
}

/// The batches of one step.
fn load(loader: &mut Loader, n: usize) -> Result<Vec<Loaded>> {
    (0..n).map(|_| Ok(loader.next_batch()?)).collect()
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn add_parts(
    sums: &mut Vec<(&'static str, Tensor<1>)>,
    parts: impl Iterator<Item = (&'static str, Tensor<1>)>,
) {
    for (i, (name, value)) in parts.enumerate() {
        match sums.get_mut(i) {
            Some((_, sum)) => *sum = sum.clone() + value,
            None => sums.push((name, value)),
        }
    }
}

fn validate(model: &Decoder, rows: &RowSet, t: &TrainConfig) -> Validation {
    let model = model.valid();
    let device = model.norm.gamma.val().device();
    evaluate(&model, rows, t.batch_size, t.document_attention, &device)
}

fn evaluation_line(step: u64, tokens: u64, validation: &Validation) -> Value {
    json!({
        "step": step,
        "tokens": tokens,
        "validation_loss": validation.loss,
        "validation_tokens": validation.tokens,
        "validation_seconds": validation.seconds,
    })
}
