//! What writer and reader of a cache share: its settings, its columns, its checksums.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use retort_train::Recipe;
use serde::{Deserialize, Serialize};

/// The entries of a distribution that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sparsification {
    /// The `k` most likely ids.
    TopK {
        /// At most 255.
        k: u8,
    },
    /// Ids drawn with replacement from p^`proposal`, weighted so that the expectation is p.
    Sampled {
        /// Draws, at most 255.
        draws: u8,
        /// Exponent of the proposal distribution; 1 is the teacher's own.
        proposal: f32,
    },
}

/// The rows of a run, as a teacher sees them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowFormat {
    /// Positions in a row.
    pub seq_len: usize,
    /// Whether attention keeps to documents.
    pub document_attention: bool,
    /// Rows that the whole run takes.
    #[serde(skip)]
    pub count: u64,
}

impl RowFormat {
    /// The rows of the run of `recipe`.
    pub fn of(recipe: &Recipe) -> Self {
        let t = &recipe.train;
        Self {
            seq_len: recipe.data.seq_len,
            document_attention: t.document_attention,
            count: t.steps * (t.accumulate * t.batch_size) as u64,
        }
    }
}

/// The columns of a shard.
pub(super) fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("ids", DataType::UInt32, false),
        Field::new("check", DataType::UInt32, false),
        Field::new("logits", DataType::Binary, false),
    ]))
}

/// CRC-32C of a row's input ids, little-endian.
pub(super) fn checksum(ids: &[i32]) -> u32 {
    ids.iter()
        .fold(0, |crc, id| crc32c::crc32c_append(crc, &id.to_le_bytes()))
}
