//! What a teacher says about the rows of a run, once and for all: a directory of
//!
//! ```text
//! cache.json             what it is of: version, teacher, tokenizer, temperature, choice
//! logits-00000.parquet   row   u64     its place in the sequence of training rows
//! logits-00001.parquet   ids   u32     CRC-32C of its input ids
//!                        check u32     CRC-32C of the next column
//!                        logits binary the row's positions, packed (see `codec`)
//! ```
//!
//! A shard has neighbouring rows in order; its metadata holds the place of the first, and the data's
//! cursor at its end, by which writing goes on. Several ranks write a cache together, each files of its own; what
//! counts is the rows from the first on without a gap, and what is there beyond one is kept. A row is read only
//! for the ids it is of, so other data, another seed or another order are noticed at the first row.
//!
//! Of each position there are either the k most likely ids and the others' mass together, or
//! a random sample whose average is the whole distribution (Anshumann et al., Sparse Logit
//! Sampling, arXiv 2503.16870): the first has a biased gradient, the second an unbiased one.

mod codec;
mod header;
mod read;
mod select;
mod write;

use retort_train::Recipe;
use serde::{Deserialize, Serialize};

pub use read::Cache;
pub use write::{Options, Progress, Written, write};

/// What is kept of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The `k` most likely ids.
    TopK {
        /// At most 255.
        k: u8,
    },
    /// Ids drawn at random, again and again, from p to the power of `proposal`; each weighs what
    /// makes the average right.
    Sampled {
        /// Draws, at most 255.
        draws: u8,
        /// 1 draws from the teacher's own distribution.
        proposal: f32,
    },
}

/// What a row of the recipe is, as far as a teacher is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Positions in a row.
    pub seq_len: usize,
    /// Whether attention keeps to documents.
    pub document_attention: bool,
    /// How many the whole run takes.
    #[serde(skip)]
    pub count: u64,
}

impl Rows {
    /// The rows of `recipe`.
    pub fn of(recipe: &Recipe) -> Self {
        let t = &recipe.train;
        Self {
            seq_len: recipe.data.seq_len,
            document_attention: t.document_attention,
            count: t.steps * (t.accumulate * t.batch_size) as u64,
        }
    }
}

/// CRC-32C of a row's input ids, little-endian.
fn checksum(ids: &[i32]) -> u32 {
    ids.iter()
        .fold(0, |crc, id| crc32c::crc32c_append(crc, &id.to_le_bytes()))
}
