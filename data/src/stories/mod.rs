//! A corpus of small stories with a known entropy, to train on where nothing can be downloaded.
//!
//! A story is 90 to 140 words in about ten sentences. Who and what it is about is said once and
//! referred to later, so predicting it takes agreement (`she … her`, `the boots were`), reference
//! (who has the thing now, where it was left) and cause and effect (it rained, so they got wet,
//! so they sat by the fire). Every choice is made with a known probability and two different
//! sequences of choices never give the same text, so −ln p(text) is known exactly: no model's loss
//! on the stories can be below it on average.
//!
//! `grammar` holds the sentences and words, `expand` and `generate` write with them, `measure`
//! finds the probability of a text, `shards` writes parquet files.

mod expand;
mod generate;
mod grammar;
mod measure;
mod shards;

pub use generate::{Story, generate};
pub use measure::nats;
pub use shards::write_parquet;
