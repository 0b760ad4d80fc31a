//! Who answers requests: a model with its tokenizer.

use super::encode::{Encoder, Request};
use super::error::Result;

pub use retort_model::Likelihood;

/// A model that says how likely continuations are, and writes its own.
pub trait Scorer {
    /// How texts become its ids.
    fn encoder(&self) -> &Encoder<'_>;

    /// The most ids that may go in at once.
    fn max_length(&self) -> usize;

    /// Answers `requests`, in their order; calls `done` with how many have been answered so far.
    ///
    /// # Errors
    ///
    /// An id that is outside the model's vocabulary, or too little memory.
    fn score(
        &mut self,
        requests: &[Request],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Likelihood>>;

    /// What the model writes after `prompt`, the likeliest token each time: at most `most` of them, to the model's own
    /// end, or as soon as `enough` says so of the text so far.
    ///
    /// # Errors
    ///
    /// As [`Self::score`].
    fn write(
        &mut self,
        prompt: &[u32],
        most: usize,
        enough: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String>;
}
