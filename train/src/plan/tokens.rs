//! How many tokens a run reads.

use retort_data::pretokenized_rows;
use serde::Serialize;

use crate::recipe::Recipe;

/// How much a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tokens {
    /// Updates from the start to the end.
    pub steps: u64,
    /// Those still to do.
    pub steps_left: u64,
    /// Tokens of an update, padding not counted out.
    pub tokens_per_step: u64,
    /// Tokens from the start to the end.
    pub tokens: u64,
    /// How often all rows of the data are seen, where the data is packed and so counted.
    pub epochs: Option<f64>,
}

impl Tokens {
    /// Those of `recipe`, `steps_done` of it done. No file is read but a packed source's index.
    pub fn new(recipe: &Recipe, steps_done: u64) -> Self {
        let t = &recipe.train;
        let tokens_per_step = (t.batch_size * recipe.data.seq_len * t.accumulate) as u64;
        // A directory that cannot be read is not the plan's to report: opening the data is.
        let rows = pretokenized_rows(&recipe.data).ok().flatten();
        let taken = (t.batch_size * t.accumulate) as f64 * t.steps as f64;
        let seen = rows.filter(|&rows| rows > 0);
        Self {
            steps: t.steps,
            steps_left: t.steps.saturating_sub(steps_done),
            tokens_per_step,
            tokens: tokens_per_step.saturating_mul(t.steps),
            epochs: seen.map(|rows| taken / rows as f64),
        }
    }
}
