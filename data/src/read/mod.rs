//! One shard to its documents, piece by piece: the `text` column of a parquet file, or the `text`
//! field of JSON lines.
//!
//! A shard has segments: a parquet file's row groups, or the whole of a JSON-lines file. A segment
//! is read from any row on, in bounded batches, so that memory does not grow with the shard.

mod json_lines;
mod parquet;

use std::path::Path;

use crate::error::Result;
pub(crate) use json_lines::JsonLines;
pub(crate) use parquet::Parquet;

/// The documents of a segment from some row on: the row in the segment, and its text unless that is
/// null.
///
/// An error of one row (a malformed line) is followed by the rows after it; after an error of the
/// rest (a damaged page) the iterator has ended.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<(u64, Option<String>)>> + Send>;

/// An open shard.
pub(crate) enum Reader {
    /// A parquet file.
    Parquet(Parquet),
    /// JSON lines, plain or in gzip.
    JsonLines(JsonLines),
}

impl Reader {
    /// Opens `path` by its name: `.parquet`, else JSON lines for `.json`, `.jsonl` and these with
    /// `.gz`. What names no kind is taken for parquet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), and for parquet a damaged footer or a column `text` that is
    /// missing or no string.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if JsonLines::is_named(path) {
            Ok(Self::JsonLines(JsonLines::open(path)?))
        } else {
            Ok(Self::Parquet(Parquet::open(path)?))
        }
    }

    /// Segments in the shard.
    pub(crate) fn segments(&self) -> usize {
        match self {
            Self::Parquet(shard) => shard.row_groups(),
            Self::JsonLines(_) => 1,
        }
    }

    /// The documents of `segment` from row `skip` of it on.
    ///
    /// # Errors
    ///
    /// As for opening the shard.
    pub(crate) fn rows(&self, segment: usize, skip: u64) -> Result<Rows> {
        match self {
            Self::Parquet(shard) => shard.rows(segment, skip),
            Self::JsonLines(shard) => shard.rows(skip),
        }
    }

    /// Rows in the shard as its footer says; `None` where only reading tells.
    pub(crate) fn row_count(&self) -> Option<u64> {
        match self {
            Self::Parquet(shard) => Some(shard.row_count()),
            Self::JsonLines(_) => None,
        }
    }
}
