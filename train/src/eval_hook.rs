//! Evaluation of the weights on tasks while they are trained.
//!
//! The loop knows when to evaluate; the evaluation is handed to it as an [`Evaluator`]. In: the weights as they are.
//! Out: figures by name (`arc_easy/acc`), into `metrics.jsonl` and TensorBoard. Training is not affected.

use std::collections::BTreeMap;
use std::path::PathBuf;

use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// `[tasks]`: on which tasks the weights are evaluated, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// Names of built-in tasks, or paths to a task's `.toml`.
    pub names: Vec<String>,
    /// Directories with the tasks' files.
    pub data: Vec<PathBuf>,
    /// Steps between two evaluations; 0 for only at the end.
    #[serde(default)]
    pub every: u64,
    /// Only the first so many items of each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Examples before each question, instead of what the task says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
}

/// Figures by task and metric, as `arc_easy/acc`.
pub type TaskMetrics = BTreeMap<String, f64>;

/// Evaluates a model on tasks.
pub trait Evaluator {
    /// The figures of `model`, which is without autodiff.
    ///
    /// # Errors
    /// Whatever keeps the model from being evaluated.
    fn evaluate(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> std::result::Result<TaskMetrics, Box<dyn std::error::Error + Send + Sync>>;
}

/// The figures of one evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct TaskEvaluation {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// The figures.
    pub tasks: TaskMetrics,
    /// Wall-clock seconds it took.
    pub tasks_seconds: f64,
}
