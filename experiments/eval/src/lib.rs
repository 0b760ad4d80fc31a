//! Evaluation of models, and reports of runs.
//!
//! ```text
//! model.gguf or Hugging Face directory + tasks ─► tasks ─► accuracies, perplexities
//! model.gguf + held-out rows ─► held_out_loss ─► loss in nats a token
//! run/metrics.jsonl ─► run_metrics ─► report ─► index.html, *.svg, metrics.csv
//! JSON of `retort eval` and `retort-edge bench` ─► results ─► report (accuracy against size and time), challenge (scores)
//! ```
//!
//! ```
//! use retort_eval::tasks::Task;
//!
//! let task = Task::find("piqa")?;
//! assert!(task.multiple_choice.is_some());
//! # Ok::<(), retort_eval::Error>(())
//! ```

pub mod challenge;
mod error;
mod held_out_loss;
pub mod report;
pub mod results;
pub mod run_metrics;
pub mod tasks;

pub use error::{Error, Result};
pub use held_out_loss::held_out_loss;
