//! A teacher's word about every row of a run, written down.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use burn::tensor::Device;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use retort_data::{Batch, Cursor, Data, Rank, Tokenizer};
use retort_model::Lesson;
use retort_train::{BatchTensors, Recipe};

use super::codec::{Position, encode};
use super::header::{Header, VERSION};
use super::read::{Cache, shard_path, shards};
use super::select::select;
use super::{Choice, Rows, checksum, write_whole};
use crate::config::TeacherConfig;
use crate::error::{Error, Result};
use crate::teacher::{fingerprint, run};

/// Positions in a shard.
const SHARD: usize = 1 << 18;
/// A shard is closed after this long, however few positions it has: what a power cut may cost.
const LONG: Duration = Duration::from_secs(600);
/// Rows of a row group: what reading decodes at once.
const GROUP: usize = 64;
/// Positions whose logits exist at once.
const CHUNK: usize = 64;
/// Where a shard's metadata has the data's cursor at its end.
const CURSOR: &str = "retort.cursor";

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is kept of a distribution.
    pub choice: Choice,
    /// How many rows; the run's by default.
    pub rows: Option<u64>,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rows that are done.
    pub rows: u64,
    /// Rows in all.
    pub of: u64,
    /// Positions done in this run, by which tokens a second are counted.
    pub positions: u64,
}

/// What there is in the end.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Rows in the cache.
    pub rows: u64,
    /// Rows that the cache was to have.
    pub of: u64,
    /// Bytes of its shards.
    pub bytes: u64,
    /// Bytes for each position.
    pub bytes_per_token: f64,
    /// Positions done in this run.
    pub positions: u64,
    /// Seconds that this run took, without opening.
    pub seconds: f64,
}

/// Writes what the teacher of `recipe` says about the run's rows into `dir`, from where it was
/// left; `stop` ends it after the batch under way, and nothing is lost.
///
/// # Errors
/// Anything wrong with recipe, teacher or data; a `dir` with a cache of something else.
pub fn write(
    recipe: &Recipe,
    dir: &Path,
    options: Options,
    device: &Device,
    stop: &AtomicBool,
    progress: &dyn Fn(Progress),
) -> Result<Written> {
    let config = TeacherConfig::from_table(recipe.teacher.as_ref())?;
    let path = config.path.as_ref().ok_or_else(|| {
        Error::Config("path: is missing: a cache is written by a teacher that runs".into())
    })?;
    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None)?);
    let teacher = run(path, &tokenizer, device)?;
    let rows = Rows::of(recipe);
    let header = Header {
        version: VERSION,
        teacher: fingerprint(path)?,
        tokenizer: format!("{:016x}", tokenizer.fingerprint()),
        // Rows past the last token are padding, in the teacher's table or the student's.
        vocabulary: teacher.vocabulary().min(tokenizer.vocab_size()),
        temperature: config.temperature,
        choice: options.choice,
        // How many there will be may still change.
        rows: Rows { count: 0, ..rows },
        seed: recipe.seed,
    };
    header.claim(dir)?;
    let (there, mut done) = shards(dir)?;
    let cursor = there.last().map(|shard| -> Result<Cursor> {
        let note = shard.note(CURSOR).unwrap_or_default();
        serde_json::from_str(note)
            .map_err(|e| Error::cache(dir, format!("the last shard's cursor: {e}")))
    });
    let cursor = cursor.transpose()?;
    let data = Data::open(
        &recipe.data,
        &tokenizer,
        Some(dir),
        cursor.as_ref(),
        &|_| {},
    )?;
    let of = options.rows.unwrap_or(rows.count);
    let batch_size = recipe.train.batch_size;
    let mut batches = data.batches(batch_size, Rank::default(), cursor.as_ref())?;
    let mut shard = Shard::new(there.len());
    let (start, mut positions) = (Instant::now(), 0);
    // A cache may end within a batch: the rest of it is there too.
    while done < of && !stop.load(Ordering::Relaxed) {
        let batch = batches.next_batch()?;
        let tensors =
            BatchTensors::new(&batch, device).within_documents(&batch, rows.document_attention);
        let lesson = teacher.lesson(&tensors)?;
        shard.add(&batch, &lesson, &header);
        done += batch.rows as u64;
        positions += batch.inputs.len() as u64;
        if shard.rows.len() * rows.seq_len >= SHARD || shard.since.elapsed() >= LONG {
            shard = shard.write(dir, &batches.cursor())?;
        }
        progress(Progress {
            rows: done.min(of),
            of,
            positions,
        });
    }
    if !shard.rows.is_empty() {
        shard.write(dir, &batches.cursor())?;
    }
    let cache = Cache::open(dir)?;
    let bytes = cache.bytes()?;
    Ok(Written {
        rows: cache.rows(),
        of,
        bytes,
        bytes_per_token: bytes as f64 / (cache.rows() * rows.seq_len as u64).max(1) as f64,
        positions,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Rows that will be a file.
struct Shard {
    index: usize,
    since: Instant,
    rows: Vec<Row>,
}

struct Row {
    number: u64,
    ids: u32,
    logits: Vec<u8>,
}

impl Shard {
    fn new(index: usize) -> Self {
        Self {
            index,
            since: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// Takes in what `lesson` says about `batch`.
    fn add(&mut self, batch: &Batch, lesson: &Lesson, header: &Header) {
        let Lesson::Dense { vocabulary, logits } = lesson else {
            unreachable!("a running teacher has logits");
        };
        let first = batch.first_row.unwrap_or_default();
        let n = batch.inputs.len();
        let mut positions = Vec::with_capacity(n);
        for start in (0..n).step_by(CHUNK) {
            let rows = start..n.min(start + CHUNK);
            let mut logits = logits(rows.clone());
            let chosen = logits
                .par_chunks_exact_mut(*vocabulary)
                .zip(rows.into_par_iter());
            let chosen = chosen.map(|(logits, i)| {
                if batch.targets[i] == Batch::IGNORE {
                    return Position::default();
                }
                // Each position has random numbers of its own, wherever writing was broken off.
                let mut random = ChaCha8Rng::seed_from_u64(header.seed);
                random.set_stream(first * batch.seq_len as u64 + i as u64);
                let logits = &mut logits[..header.vocabulary];
                select(logits, header.choice, header.temperature, &mut random)
            });
            positions.par_extend(chosen);
        }
        let rows = positions
            .chunks(batch.seq_len)
            .zip(batch.inputs.chunks(batch.seq_len));
        for (i, (positions, ids)) in rows.enumerate() {
            self.rows.push(Row {
                number: first + i as u64,
                ids: checksum(ids),
                logits: encode(positions, header.vocabulary),
            });
        }
    }

    /// Becomes a file, after which the data is at `cursor`; answers the next shard.
    fn write(self, dir: &Path, cursor: &Cursor) -> Result<Self> {
        let path = shard_path(dir, self.index);
        let failed =
            |e: &dyn std::fmt::Display| Error::cache(&path, format!("cannot be written: {e}"));
        let cursor = serde_json::to_string(cursor).expect("a cursor serializes");
        let properties = WriterProperties::builder()
            // The bits are as good as random.
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(GROUP))
            .set_key_value_metadata(Some(vec![KeyValue::new(CURSOR.into(), cursor)]))
            .build();
        let numbers = UInt64Array::from_iter_values(self.rows.iter().map(|r| r.number));
        let ids = UInt32Array::from_iter_values(self.rows.iter().map(|r| r.ids));
        let checks = self.rows.iter().map(|r| crc32c::crc32c(&r.logits));
        let checks = UInt32Array::from_iter_values(checks);
        let logits = BinaryArray::from_iter_values(self.rows.iter().map(|r| &r.logits));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(numbers),
            Arc::new(ids),
            Arc::new(checks),
            Arc::new(logits),
        ];
        let batch = RecordBatch::try_new(schema(), columns).map_err(|e| failed(&e))?;
        write_whole(&path, |file| {
            let writer = ArrowWriter::try_new(file, schema(), Some(properties));
            let mut writer = writer.map_err(|e| failed(&e))?;
            writer.write(&batch).map_err(|e| failed(&e))?;
            writer.close().map(drop).map_err(|e| failed(&e))
        })?;
        Ok(Self::new(self.index + 1))
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
