//! Encodes rows and writes them as a shard.
//!
//! In: batches with the teacher's dense logits. Out: a parquet file, written whole or not at all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use retort_data::{Batch, Cursor};
use retort_files::AtomicFile;
use retort_model::TeacherLogits;

use super::codec::{SparseDistribution, encode};
use super::format::{checksum, schema};
use super::header::Header;
use super::shards::{CURSOR, FIRST_ROW, shard_path};
use super::sparsify::sparsify;
use crate::error::{Error, Result};

/// Positions in a full shard.
pub(super) const SHARD_POSITIONS: usize = 1 << 18;
/// A shard is written after this long even if it is not full: a crash loses no more.
const SHARD_TIME: Duration = Duration::from_secs(600);
/// Rows in a row group, which is decoded as a whole.
const GROUP_ROWS: usize = 64;
/// Positions whose dense logits exist at once.
const LOGITS_AT_ONCE: usize = 64;

/// A row as it is stored.
pub(super) struct EncodedRow {
    /// Its index in the run.
    pub number: u64,
    ids_checksum: u32,
    logits: Vec<u8>,
}

/// The rows of `batch` with the teacher's `logits`.
///
/// # Panics
/// `logits` are sparse.
pub(super) fn encode_rows(
    batch: &Batch,
    logits: &TeacherLogits,
    header: &Header,
) -> Vec<EncodedRow> {
    let TeacherLogits::Dense { vocabulary, logits } = logits else {
        unreachable!("a running teacher has dense logits");
    };
    let first = batch.first_row().unwrap_or_default();
    let n = batch.inputs.len();
    let mut positions = Vec::with_capacity(n);
    for start in (0..n).step_by(LOGITS_AT_ONCE) {
        let range = start..n.min(start + LOGITS_AT_ONCE);
        let mut logits = logits(range.clone());
        let sparse = logits
            .par_chunks_exact_mut(*vocabulary)
            .zip(range.into_par_iter());
        let sparse = sparse.map(|(logits, i)| {
            if batch.targets[i] == Batch::IGNORE {
                return SparseDistribution::default();
            }
            // A random stream for each position, so that a resumed run draws the same.
            let mut random = ChaCha8Rng::seed_from_u64(header.seed);
            random.set_stream(first * batch.seq_len as u64 + i as u64);
            let logits = &mut logits[..header.vocabulary];
            sparsify(
                logits,
                header.sparsification,
                header.temperature,
                &mut random,
            )
        });
        positions.par_extend(sparse);
    }
    let rows = positions
        .chunks(batch.seq_len)
        .zip(batch.inputs.chunks(batch.seq_len));
    let rows = rows.enumerate().map(|(i, (positions, ids))| EncodedRow {
        number: first + i as u64,
        ids_checksum: checksum(ids),
        logits: encode(positions, header.vocabulary),
    });
    rows.collect()
}

/// Consecutive rows that will be a shard.
pub(super) struct ShardWriter {
    index: usize,
    /// The distance between the indices of this rank's shards.
    stride: usize,
    started: Instant,
    pub rows: Vec<EncodedRow>,
}

impl ShardWriter {
    pub(super) fn new(index: usize, stride: usize) -> Self {
        Self {
            index,
            stride,
            started: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// The row after its last; `None` while it is empty.
    pub(super) fn end(&self) -> Option<u64> {
        self.rows.last().map(|row| row.number + 1)
    }

    /// Whether it has enough rows of `seq_len` positions, or is old enough, to be written.
    pub(super) fn is_due(&self, seq_len: usize) -> bool {
        self.rows.len() * seq_len >= SHARD_POSITIONS || self.started.elapsed() >= SHARD_TIME
    }

    /// Writes it into `dir` with the data's `cursor` after its last row, if that is known.
    /// Returns the writer of this rank's next shard, or itself if it is empty.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn finish(self, dir: &Path, cursor: Option<&Cursor>) -> Result<Self> {
        let Some(first) = self.rows.first().map(|row| row.number) else {
            return Ok(self);
        };
        let path = shard_path(dir, self.index);
        let failed =
            |e: &dyn std::fmt::Display| Error::cache(&path, format!("cannot be written: {e}"));
        let cursor = serde_json::to_string(&cursor).expect("a cursor serializes");
        let properties = WriterProperties::builder()
            // The encoded bits do not compress.
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(vec![
                KeyValue::new(CURSOR.into(), cursor),
                KeyValue::new(FIRST_ROW.into(), first.to_string()),
            ]))
            .build();
        let rows = &self.rows;
        let numbers = UInt64Array::from_iter_values(rows.iter().map(|r| r.number));
        let ids = UInt32Array::from_iter_values(rows.iter().map(|r| r.ids_checksum));
        let checks = rows.iter().map(|r| crc32c::crc32c(&r.logits));
        let checks = UInt32Array::from_iter_values(checks);
        let logits = BinaryArray::from_iter_values(rows.iter().map(|r| &r.logits));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(numbers),
            Arc::new(ids),
            Arc::new(checks),
            Arc::new(logits),
        ];
        let batch = RecordBatch::try_new(schema(), columns).map_err(|e| failed(&e))?;
        let mut file = AtomicFile::create(&path).map_err(Error::io(&path))?;
        let writer = ArrowWriter::try_new(file.as_file(), schema(), Some(properties));
        let mut writer = writer.map_err(|e| failed(&e))?;
        writer.write(&batch).map_err(|e| failed(&e))?;
        writer.close().map_err(|e| failed(&e))?;
        file.commit().map_err(Error::io(&path))?;
        Ok(Self::new(self.index + self.stride, self.stride))
    }
}
