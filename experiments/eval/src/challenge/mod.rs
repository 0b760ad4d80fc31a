//! Scores of two public contests for small models, from figures that were measured.
//!
//! ```text
//! measured::Measured of the model (and of a baseline) ─► arm::score, edge_llm::score ─► JSON, a table
//! ```

pub mod arm;
pub mod edge_llm;

use crate::error::{Error, Result};
use crate::measured::{Measured, Speed};

/// The model's speed, measured as it has to be.
fn speed(model: &Measured) -> Result<&Speed> {
    model.speed.as_ref().ok_or_else(|| Error::Challenge {
        model: model.path.clone(),
        reason: format!(
            "no speed among the figures: add what `retort-edge bench {} --json` prints",
            model.path
        ),
    })
}

/// A figure that the system where it was measured did not tell.
fn told<T>(value: Option<T>, model: &Measured, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::Challenge {
        model: model.path.clone(),
        reason: format!(
            "{what} is not among the figures: measure it on Linux with this version of retort-edge"
        ),
    })
}
