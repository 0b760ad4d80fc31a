//! A shard of either format, chosen by its file's name.

use std::path::Path;

use super::json_lines::JsonLines;
use super::parquet::Parquet;
use super::segment_rows::SegmentRows;
use crate::error::Result;

/// An open shard.
pub(crate) enum Reader {
    /// A parquet file.
    Parquet(Parquet),
    /// JSON lines, plain or in gzip.
    JsonLines(JsonLines),
}

impl Reader {
    /// Opens `path` by its name: JSON lines for `.json`, `.jsonl`, `.ndjson` and these with `.gz`,
    /// else parquet.
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
    pub(crate) fn rows(&self, segment: usize, skip: u64) -> Result<SegmentRows> {
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
