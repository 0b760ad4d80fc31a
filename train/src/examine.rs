//! Likelihood tasks asked of the weights while they are trained.
//!
//! The loop knows when to ask; who asks, and what, is handed to it as an [`Examiner`]. In: the weights as they are.
//! Out: figures by name (`arc_easy/acc`), into `metrics.jsonl` and TensorBoard. Training does not notice.

use std::collections::BTreeMap;
use std::path::PathBuf;

use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// `[tasks]`: what the weights are asked, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// Names of built-in tasks, or paths to a task's `.toml`.
    pub names: Vec<String>,
    /// Directories with the tasks' files.
    pub data: Vec<PathBuf>,
    /// Steps between two examinations; 0 for only at the end.
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
pub type Figures = BTreeMap<String, f64>;

/// Asks a model.
pub trait Examiner {
    /// The figures of `model`, which is without autodiff.
    ///
    /// # Errors
    /// Whatever keeps it from being asked.
    fn examine(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> std::result::Result<Figures, Box<dyn std::error::Error + Send + Sync>>;
}

/// What an examination found.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// The figures.
    pub tasks: Figures,
    /// Wall-clock seconds it took.
    pub tasks_seconds: f64,
}
