//! From logits to the next token.
//!
//! In: one row of logits `[vocab_size]`; out: an id. What acts, in this order:
//!
//! 1. `penalties`: logit bias, then repetition, presence and frequency penalties for tokens seen before
//! 2. `filters` on the probabilities at temperature 1: top-k, typical, top-p, min-p
//! 3. the temperature, and a draw
//!
//! Mirostat (`mirostat`) takes the place of 2 and 3; where 2 leaves all tokens, `full_vocabulary` draws. The same seed
//! and logits give the same ids on every platform: the random numbers are ChaCha12.

mod candidate;
mod filters;
mod full_vocabulary;
mod mirostat;
mod parameters;
mod penalties;
mod sampler;
#[cfg(test)]
mod tests;

pub use mirostat::Mirostat;
pub use parameters::Sampling;
pub use sampler::{Sampler, argmax};
