//! What the training loop reports, while it runs and at its end.

use std::path::{Path, PathBuf};

use crate::eval_hook::TaskEvaluation;
use crate::loss_spike::Skip;
use crate::metrics::{Evaluation, Metrics};
use crate::run_log::Sample;

/// Progress of a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a Metrics),
    /// A step's batch was passed over.
    Skipped(u64, Skip),
    /// The validation split was evaluated.
    Evaluated(&'a Evaluation),
    /// The weights were evaluated on the recipe's tasks.
    TasksEvaluated(&'a TaskEvaluation),
    /// A prompt of the recipe was continued.
    Sampled(&'a Sample),
    /// A checkpoint is complete.
    Checkpoint(&'a Path),
}

/// How a call of [`train`](crate::train()) ended.
#[derive(Debug)]
pub struct Outcome {
    /// Steps done in all.
    pub step: u64,
    /// Tokens trained on in all.
    pub tokens: u64,
    /// Seconds trained in all, without data preparation and evaluation.
    pub seconds: f64,
    /// Batches passed over in all.
    pub skipped: u64,
    /// Whether `stop` ended it before the recipe's last step.
    pub stopped: bool,
    /// The checkpoint of the last step.
    pub checkpoint: PathBuf,
    /// The last evaluation, if there is a validation split and the run is complete.
    pub validation: Option<Evaluation>,
}
