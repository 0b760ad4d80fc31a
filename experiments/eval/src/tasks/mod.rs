//! Evaluation of a model on tasks: accuracy on choices, perplexity of texts, right completions.
//!
//! ```text
//! task.toml ─► task ─┐                                           ┌─ engine_scorer  a .gguf
//! data files ─► rows ┴► load ─► items ─► encoder ─► Scorer ──────┤
//!                               prompts  ids                     └─ burn_scorer    a Hugging Face directory
//!                                             │
//!                     log-likelihoods in nats, or completions ─► item_score, metrics ─► results_json
//! ```
//!
//! Prompts, tokenization, metrics and their names are those of lm-evaluation-harness 0.4
//! (<https://github.com/EleutherAI/lm-evaluation-harness>), so that results compare with published
//! ones. A task is a TOML file; [`TASKS`] are built in.

mod answers;
mod burn_scorer;
mod encoder;
mod engine_scorer;
mod evaluate;
mod generation;
mod item;
mod item_builder;
mod item_score;
mod load;
mod metrics;
mod results_json;
mod rows;
mod scorer;
mod task;
mod template;

pub use burn_scorer::BurnScorer;
pub use encoder::{Encoder, Request};
pub use engine_scorer::EngineScorer;
pub use evaluate::{Evaluation, GroupFigures, ItemResult, OnItem, evaluate, evaluate_with};
pub use generation::Completion;
pub use item::{Item, Prompt, Target};
pub use item_score::Predictions;
pub use load::{LoadOptions, LoadedTask};
pub use metrics::{Figure, Metric};
pub use results_json::{item_json, results_json};
pub use scorer::{Likelihood, Scorer};
pub use task::{TASKS, Task};
