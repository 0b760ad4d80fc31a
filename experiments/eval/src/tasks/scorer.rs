//! The interface of a model with its tokenizer: likelihoods of continuations, and completions.

use super::encoder::{Encoder, Request};
use crate::error::Result;

pub use retort_model::Likelihood;

/// A model that gives the likelihoods of continuations, and writes completions.
pub trait Scorer {
    /// Encodes texts to the model's ids.
    fn encoder(&self) -> &Encoder<'_>;

    /// Most ids of an input.
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

    /// The model's greedy completion of `prompt`: at most `most` tokens, up to an end-of-text token,
    /// or until `enough` is true of the text so far.
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
