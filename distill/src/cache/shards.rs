//! The parquet files of a cache: which there are, and a group of rows out of one.
//!
//! In: the cache's directory. Out: its shards in the order of their rows.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use retort_data::catch_panic;

use super::format::schema;
use crate::error::{Error, Result};

/// The key of a shard's metadata that holds the index of its first row.
pub(super) const FIRST_ROW: &str = "retort.first";
/// The key of a shard's metadata that holds the data's cursor after its last row.
pub(super) const CURSOR: &str = "retort.cursor";

/// A file of the cache.
pub(super) struct Shard {
    pub path: PathBuf,
    /// The number in its name.
    pub index: usize,
    /// The index of its first row in the run.
    pub first: u64,
    metadata: ArrowReaderMetadata,
}

impl Shard {
    /// The index after its last row.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.rows())
    }

    fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows() as u64
    }

    /// The entry `key` of its metadata.
    pub fn entry(&self, key: &str) -> Option<&str> {
        let entries = self
            .metadata
            .metadata()
            .file_metadata()
            .key_value_metadata();
        let entry = entries?.iter().find(|entry| entry.key == key);
        entry?.value.as_deref()
    }

    /// The row group that has the shard's row `i`, and the row's index in it.
    pub fn locate(&self, i: usize) -> (usize, usize) {
        let (mut group, mut i) = (0, i);
        for (index, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            group = index;
            let rows = metadata.num_rows() as usize;
            if i < rows {
                break;
            }
            i -= rows;
        }
        (group, i)
    }

    /// The rows of row group `group`.
    ///
    /// # Errors
    /// A damaged file, or one with other columns, in words.
    pub fn read_group(&self, group: usize) -> std::result::Result<RecordBatch, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let file = File::open(&self.path).map_err(|e| text(&e))?;
        let metadata = self.metadata.clone();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let rows = self.metadata.metadata().row_group(group).num_rows() as usize;
        let mut reader = builder
            .with_row_groups(vec![group])
            .with_batch_size(rows.max(1))
            .build()
            .map_err(|e| text(&e))?;
        let batch = reader.next().ok_or("has no rows")?.map_err(|e| text(&e))?;
        if batch.schema().fields() == schema().fields() {
            Ok(batch)
        } else {
            Err("has other columns than a cache".into())
        }
    }
}

/// The shards in `dir` in the order of their rows. The numbers in their names have another order
/// where several ranks wrote them.
///
/// # Errors
/// A file that cannot be read, or is not parquet.
pub(super) fn list_shards(dir: &Path) -> Result<Vec<Shard>> {
    let mut indices = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let name = entry.map_err(Error::io(dir))?.file_name();
        indices.extend(name.to_str().and_then(shard_index));
    }
    indices.sort_unstable();
    let (mut shards, mut rows) = (Vec::new(), 0);
    for index in indices {
        let path = shard_path(dir, index);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let load = || ArrowReaderMetadata::load(&file, ArrowReaderOptions::default());
        let metadata = catch_panic(load).map_err(|e| Error::cache(&path, e))?;
        let mut shard = Shard {
            path,
            index,
            first: rows,
            metadata,
        };
        // Shards written before several ranks could write do not name their first row; theirs
        // follow each other in the order of the files.
        if let Some(first) = shard.entry(FIRST_ROW).and_then(|first| first.parse().ok()) {
            shard.first = first;
        }
        rows += shard.rows();
        shards.push(shard);
    }
    shards.sort_by_key(|shard| shard.first);
    Ok(shards)
}

/// The number of rows before the first gap in `shards`, and the last shard before it.
pub(super) fn complete_rows(shards: &[Shard]) -> (u64, Option<&Shard>) {
    let (mut rows, mut last) = (0, None);
    for shard in shards {
        if shard.first > rows {
            break;
        }
        rows = rows.max(shard.end());
        last = Some(shard);
    }
    (rows, last)
}

fn shard_index(name: &str) -> Option<usize> {
    let number = name.strip_prefix("logits-")?.strip_suffix(".parquet")?;
    number.parse().ok()
}

/// The file of shard `index`.
pub(super) fn shard_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("logits-{index:05}.parquet"))
}
