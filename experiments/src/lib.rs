//! What came out of runs: reports, plots and tables.
//!
//! ```text
//! run/metrics.jsonl ─► metrics::Run ─► report ─► index.html, *.svg, metrics.csv
//! model.gguf + held-out rows ─► quality ─► loss in nats a token
//! ```
//!
//! This crate reads what runs have written and knows nothing of how any of it was computed.

mod error;
pub mod metrics;
pub mod quality;
pub mod report;

pub use error::{Error, Result};
