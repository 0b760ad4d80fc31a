//! A position in the sequence of batches, as a few hundred bytes of JSON.
//!
//! It names the data it belongs to, so that it cannot be used with other data unnoticed.

use serde::{Deserialize, Serialize};

use crate::epoch_order::Position;
use crate::error::{Error, Result};
use crate::stats::Stats;

/// Version of the form of a cursor.
const VERSION: u32 = 1;

/// A position between two batches. [`Batches`](crate::Batches) goes on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    version: u32,
    /// What the position is in.
    pub(crate) identity: Identity,
    /// One for each source of the mixture.
    pub(crate) sources: Vec<SourceCursor>,
}

/// Hashes of all that the sequence of rows depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The shards of each source.
    pub sources: Vec<String>,
    /// Sources of the hub with the commit that was read, by which they are found again.
    pub pinned: Vec<Option<String>>,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// The fields of `[data]` that the rows depend on.
    pub settings: String,
}

/// A position between two rows of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceCursor {
    /// Start of the window that the next row begins in; of packed data, the epoch.
    #[serde(flatten)]
    pub position: Position,
    /// Ids (concatenated) or rows (best fit, packed) before the next row.
    pub skip: u64,
    /// Rows taken from the start.
    pub rows: u64,
    /// Statistics before the window.
    #[serde(rename = "counts")]
    pub stats: Stats,
}

impl Cursor {
    /// The start of the data named by `identity`.
    pub(crate) fn start(identity: Identity) -> Self {
        let sources = vec![SourceCursor::default(); identity.sources.len()];
        Self {
            version: VERSION,
            identity,
            sources,
        }
    }

    pub(crate) fn at(identity: Identity, sources: Vec<SourceCursor>) -> Self {
        Self {
            version: VERSION,
            identity,
            sources,
        }
    }

    /// Rows taken from the start of the run, by all ranks together.
    pub fn rows(&self) -> u64 {
        self.sources.iter().map(|source| source.rows).sum()
    }

    /// Epochs completed, of each source.
    pub fn epochs(&self) -> Vec<u64> {
        self.sources.iter().map(|s| s.position.epoch).collect()
    }

    /// Whether the cursor belongs to the data of `identity`.
    pub(crate) fn check(&self, identity: &Identity) -> Result<()> {
        let wrong = |reason: String| Err(Error::Cursor { reason });
        if self.version != VERSION {
            return wrong(format!(
                "has version {}, and this program reads version {VERSION}: use the program that \
                 wrote it, or start a new run",
                self.version
            ));
        }
        let same = [
            (self.identity.sources == identity.sources, "the shards are"),
            (
                self.identity.tokenizer == identity.tokenizer,
                "the tokenizer is",
            ),
            (
                self.identity.settings == identity.settings,
                "the settings in [data] are",
            ),
            (
                self.sources.len() == identity.sources.len(),
                "the sources are",
            ),
        ];
        match same.into_iter().find(|(same, _)| !same) {
            Some((_, what)) => wrong(format!(
                "belongs to other data, for {what} not those it was saved with: restore them, or \
                 start a new run"
            )),
            None => Ok(()),
        }
    }
}
