//! Reads a cache in place of running the teacher.
//!
//! In: the cache's directory, a batch of the rows it was written for. Out: sparse teacher logits.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use retort_data::{BatchSource, catch_panic};
use retort_model::{Sparse, Tail, TeacherLogits};
use retort_train::BatchTensors;

use super::codec::{SparseDistribution, decode, probability};
use super::format::{Sparsification, checksum};
use super::header::Header;
use super::shards::{Shard, complete_rows, list_shards};
use crate::error::{Error, Result};
use crate::teacher::Teacher;

/// An open cache.
pub struct LogitCache {
    pub(super) dir: PathBuf,
    pub(super) header: Header,
    shards: Vec<Shard>,
    /// The row group read last: `[shard, group]` and its rows.
    last_group: Mutex<Option<([usize; 2], RecordBatch)>>,
}

impl LogitCache {
    /// Opens the cache in `dir`.
    ///
    /// # Errors
    /// `dir` is not a cache, or a shard is damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::cache(
                dir,
                "is not a directory: write it with `retort distill cache`",
            ));
        }
        let header = Header::read(dir)?;
        let shards = list_shards(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            header,
            shards,
            last_group: Mutex::new(None),
        })
    }

    /// The number of rows, from the first up to the first gap.
    pub fn rows(&self) -> u64 {
        complete_rows(&self.shards).0
    }

    /// Bytes of all shards.
    ///
    /// # Errors
    /// A file's size cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        let size = |s: &Shard| {
            fs::metadata(&s.path)
                .map(|m| m.len())
                .map_err(Error::io(&s.path))
        };
        self.shards.iter().map(size).sum()
    }

    /// The positions of row `row`. Its input ids must have the checksum `ids`, if one is given.
    fn row(&self, row: u64, ids: Option<u32>) -> Result<Vec<SparseDistribution>> {
        let after = self.shards.partition_point(|s| s.first <= row);
        let index = after.checked_sub(1).filter(|&s| row < self.shards[s].end());
        let Some(index) = index else {
            let reason = format!("has {} rows, and none with number {row}", self.rows());
            return Err(Error::cache(&self.dir, reason));
        };
        let shard = &self.shards[index];
        let error = |reason: String| Error::cache(&shard.path, format!("row {row}: {reason}"));
        let (group, i) = shard.locate((row - shard.first) as usize);
        let mut last = self.last_group.lock().unwrap_or_else(|e| e.into_inner());
        if !matches!(&*last, Some((at, _)) if *at == [index, group]) {
            let batch = catch_panic(|| shard.read_group(group)).map_err(error)?;
            *last = Some(([index, group], batch));
        }
        let Some((_, batch)) = &*last else {
            return Err(error("cannot be read".into()));
        };
        if i >= batch.num_rows() {
            return Err(error("is missing".into()));
        }
        let number = batch.column(0).as_primitive::<UInt64Type>().value(i);
        let checksums = [1, 2].map(|c| batch.column(c).as_primitive::<UInt32Type>().value(i));
        let [ids_checksum, logits_checksum] = checksums;
        if number != row {
            return Err(error(format!("has number {number}: write the cache again")));
        }
        if ids.is_some_and(|ids| ids != ids_checksum) {
            return Err(error(
                "is of other text than the recipe's: use the recipe's [data] that it was written \
                 with, or write it again"
                    .into(),
            ));
        }
        let bytes = batch.column(3).as_binary::<i32>().value(i);
        if crc32c::crc32c(bytes) != logits_checksum {
            return Err(error("is damaged: write the cache again".into()));
        }
        let (count, vocabulary) = (self.header.rows.seq_len, self.header.vocabulary);
        decode(bytes, count, vocabulary).map_err(|e| error(e.to_string()))
    }
}

impl Teacher for LogitCache {
    fn logits(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
        let [b, t] = batch.inputs.dims();
        let ids = batch.inputs.clone().into_data().convert::<i32>();
        let ids: Vec<i32> = ids.try_into_vec().expect("numbers just converted");
        let mut sparse = Sparse {
            vocabulary: self.header.vocabulary,
            offsets: vec![0],
            ..Sparse::default()
        };
        let mut rest = Vec::with_capacity(b * t);
        for i in 0..b {
            let positions = match batch.source {
                BatchSource::Training { first_row } => {
                    let ids = checksum(&ids[i * t..][..t]);
                    self.row(first_row + i as u64, Some(ids))?
                }
                // These are for measuring: any row's positions do.
                BatchSource::Validation | BatchSource::Synthetic => {
                    self.row(i as u64 % self.rows().max(1), None)?
                }
            };
            for position in positions {
                for (id, code) in position.entries {
                    sparse.ids.push(id);
                    sparse.probabilities.push(probability(code));
                }
                sparse.offsets.push(sparse.ids.len());
                rest.push(position.rest.to_f32());
            }
        }
        sparse.tail = match self.header.sparsification {
            Sparsification::TopK { .. } => Tail::Mass(rest),
            Sparsification::Sampled { .. } => Tail::Sampled(rest),
        };
        Ok(TeacherLogits::Sparse(sparse))
    }

    fn vocab_size(&self) -> usize {
        self.header.vocabulary
    }
}
