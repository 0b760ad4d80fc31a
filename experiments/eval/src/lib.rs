//! How good a model is, and what came out of runs: evaluation, reports, plots and tables.
//!
//! ```text
//! run/metrics.jsonl ─► metrics::Run ─► report ─► index.html, *.svg, metrics.csv
//! model.gguf + held-out rows ─► quality ─► loss in nats a token
//! model.gguf or Hugging Face directory + tasks ─► eval ─► accuracies, perplexities
//! figures of eval and bench as JSON ─► measured ─► report (accuracy against size and time), challenge (scores)
//! ```
//!
//! This crate knows nothing of how anything is computed: it asks `retort-engine` and `retort-model`.

pub mod challenge;
mod error;
pub mod eval;
pub mod measured;
pub mod metrics;
pub mod quality;
pub mod report;

pub use error::{Error, Result};
