//! Evaluation: how often a model finds the right answer likelier than the wrong ones, how well it predicts
//! text, how often it writes what is right.
//!
//! ```text
//! task.toml ─► spec ─┐                                   ┌─ engine  a .gguf, prefixes kept
//! data files ─► rows ─┴► items ─► encode ─► Scorer ──────┤
//!                        prompts   ids                   └─ burn    a Hugging Face directory
//!                                             │
//!                        log-likelihoods in nats, or texts ─► metrics ─► figures
//! ```
//!
//! Prompts, tokenization, metrics and their names are those of lm-evaluation-harness 0.4
//! (<https://github.com/EleutherAI/lm-evaluation-harness>), so that figures compare with published
//! ones. A task is a TOML file; [`TASKS`] are built in.

mod burn;
mod encode;
mod engine;
mod error;
mod item;
mod metrics;
mod output;
mod rows;
mod run;
mod score;
mod scorer;
mod source;
mod task;
mod template;
mod written;

pub use burn::BurnScorer;
pub use encode::{Encoder, Request};
pub use engine::EngineScorer;
pub use error::{Error, Result};
pub use item::{Gold, Item};
pub use metrics::{Figure, Metric};
pub use output::{item_json, results_json};
pub use run::{Each, Evaluation, ItemResult, evaluate, evaluate_with};
pub use scorer::{Likelihood, Scorer};
pub use source::{Loaded, Options};
pub use task::{TASKS, Task};
pub use written::Written;
