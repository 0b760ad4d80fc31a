//! Scores of two public challenges for small models, from measured results.
//!
//! ```text
//! results::ModelResults of the model (and of a baseline) ─► arm::score, edge_llm::score ─► JSON, a table
//! ```

pub mod arm;
pub mod edge_llm;

use crate::error::{Error, Result};
use crate::results::{ModelResults, Speed};

/// The model's speed; an error where it was not measured.
fn speed(model: &ModelResults) -> Result<&Speed> {
    let path = &model.path;
    model.speed.as_ref().ok_or_else(|| {
        let reason = "no speed among the figures: add what `retort-edge bench";
        Error::challenge(path, format!("{reason} {path} --json` prints"))
    })
}

/// A figure that some systems do not report.
fn required<T>(value: Option<T>, model: &ModelResults, what: &str) -> Result<T> {
    let remedy = "measure it on Linux with this version of retort-edge";
    let reason = || format!("{what} is not among the figures: {remedy}");
    value.ok_or_else(|| Error::challenge(&model.path, reason()))
}
