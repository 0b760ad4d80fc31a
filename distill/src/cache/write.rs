//! A teacher's word about every row of a run, written down.

use std::ops::Range;
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
use retort_data::{Batch, Batches, Cursor, Data, Rank, Tokenizer};
use retort_files::AtomicFile;
use retort_model::TeacherLogits;
use retort_train::{BatchTensors, Recipe, World};

use super::codec::{Position, encode};
use super::header::{Header, VERSION};
use super::read::{self, Cache, FIRST, shard_path, shards, whole};
use super::select::select;
use super::{Choice, Rows, checksum};
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
/// left; `stop` ends it after the batch under way, and nothing is lost. The ranks of `world` share the rows, and
/// the directory; each writes files of its own.
///
/// # Errors
/// Anything wrong with recipe, teacher or data; a `dir` with a cache of something else.
pub fn write(
    world: &World,
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
    // One after the other: the first makes the directory, the others hold themselves to what is there.
    if !world.leads() {
        world.meet();
    }
    header.claim(dir)?;
    let there = shards(dir)?;
    let (done, last) = whole(&there);
    let cursor = last.map(|shard| -> Result<Cursor> {
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
    if world.leads() {
        world.meet();
    }
    let seen = [there.len() as f64, done as f64];
    if world
        .gather_numbers(&seen)
        .iter()
        .any(|other| *other != seen)
    {
        let problem =
            "is not the same directory on all ranks: choose an --out that their machines share";
        return Err(Error::cache(dir, problem));
    }
    let of = options.rows.unwrap_or(rows.count);
    let batch_size = recipe.train.batch_size;
    let mut batches = data.batches(batch_size, Rank::default(), cursor.as_ref())?;
    let mine = Mine::new(world, &there, (of, SHARD / rows.seq_len, batch_size));
    let after = there.iter().map(|shard| shard.index + 1).max().unwrap_or(0);
    let mut shard = Shard::new(after + world.rank(), world.size());
    let (start, mut positions) = (Instant::now(), 0);
    let already: u64 = mine
        .there
        .iter()
        .map(|rows| rows.end.min(of) - rows.start.min(of))
        .sum();
    let mut written = 0;
    // All go on together, so that all stop together.
    loop {
        let (batch, before) = mine.next(&mut batches)?;
        let counts = [
            written,
            positions,
            u64::from(batch.is_some()),
            u64::from(stop.load(Ordering::Relaxed)),
        ];
        let all = world.gather_numbers(&counts.map(|n| n as f64));
        let sum = |i: usize| all.iter().map(|each| each[i]).sum::<f64>() as u64;
        progress(Progress {
            rows: (already + sum(0)).min(of),
            of,
            positions: sum(1),
        });
        let Some(batch) = batch.filter(|_| sum(3) == 0) else {
            shard = shard.write(dir, before.as_ref())?;
            if sum(2) == 0 || sum(3) > 0 {
                positions = sum(1);
                break;
            }
            continue;
        };
        let first = batch.first_row.unwrap_or_default();
        if shard.end() != Some(first) {
            shard = shard.write(dir, before.as_ref())?;
        }
        let tensors =
            BatchTensors::new(&batch, device).within_documents(&batch, rows.document_attention);
        let lesson = teacher.lesson(&tensors)?;
        for row in shard.rows_of(&batch, &lesson, &header) {
            if mine.there.iter().any(|rows| rows.contains(&row.number)) {
                // Its neighbour is there: nobody will ask for the cursor between them.
                shard = shard.write(dir, None)?;
                continue;
            }
            shard.rows.push(row);
            written += 1;
        }
        positions += batch.inputs.len() as u64;
        let full = shard.rows.len() * rows.seq_len >= SHARD || shard.since.elapsed() >= LONG;
        if full || !mine.has(first + batch.rows as u64) {
            shard = shard.write(dir, Some(&batches.cursor()))?;
        }
    }
    world.meet();
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

/// Which rows fall to this rank: blocks of whole batches in turn, but for what is there.
struct Mine {
    rank: u64,
    ranks: u64,
    block: u64,
    of: u64,
    there: Vec<Range<u64>>,
}

impl Mine {
    /// Of `of` rows, in blocks of `most` rows or fewer if there are not as many for each rank.
    fn new(world: &World, there: &[read::Shard], (of, most, batch): (u64, usize, usize)) -> Self {
        let ranks = world.size() as u64;
        let block = of.div_ceil(ranks).min(most as u64).max(1);
        Self {
            rank: world.rank() as u64,
            ranks,
            block: block.next_multiple_of(batch as u64),
            of,
            there: there.iter().map(|shard| shard.first..shard.end()).collect(),
        }
    }

    fn has(&self, row: u64) -> bool {
        row < self.of && row / self.block % self.ranks == self.rank
    }

    /// The next batch that has something of this rank's, and the place before it.
    fn next(&self, batches: &mut Batches) -> Result<(Option<Batch>, Option<Cursor>)> {
        loop {
            let before = batches.cursor();
            if before.rows() >= self.of {
                return Ok((None, Some(before)));
            }
            let batch = batches.next_batch()?;
            let first = batch.first_row.unwrap_or_default();
            let there = |row| self.there.iter().any(|rows| rows.contains(&row));
            // A cache may end within a batch: the rest of it is there too.
            let missing = (first..first + batch.rows as u64).any(|row| !there(row));
            if self.has(first) && missing {
                return Ok((Some(batch), Some(before)));
            }
        }
    }
}

/// Rows that will be a file.
struct Shard {
    index: usize,
    /// From its number to that of this rank's next.
    stride: usize,
    since: Instant,
    rows: Vec<Row>,
}

struct Row {
    number: u64,
    ids: u32,
    logits: Vec<u8>,
}

impl Shard {
    fn new(index: usize, stride: usize) -> Self {
        Self {
            index,
            stride,
            since: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// The place after its last row; none while it has none.
    fn end(&self) -> Option<u64> {
        self.rows.last().map(|row| row.number + 1)
    }

    /// What `lesson` says about `batch`.
    fn rows_of(&self, batch: &Batch, lesson: &TeacherLogits, header: &Header) -> Vec<Row> {
        let TeacherLogits::Dense { vocabulary, logits } = lesson else {
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
        let rows = rows.enumerate().map(|(i, (positions, ids))| Row {
            number: first + i as u64,
            ids: checksum(ids),
            logits: encode(positions, header.vocabulary),
        });
        rows.collect()
    }

    /// Becomes a file, after which the data is at `cursor`; answers the next shard. One without rows stays.
    fn write(self, dir: &Path, cursor: Option<&Cursor>) -> Result<Self> {
        let Some(first) = self.rows.first().map(|row| row.number) else {
            return Ok(self);
        };
        let path = shard_path(dir, self.index);
        let failed =
            |e: &dyn std::fmt::Display| Error::cache(&path, format!("cannot be written: {e}"));
        let cursor = serde_json::to_string(&cursor).expect("a cursor serializes");
        let properties = WriterProperties::builder()
            // The bits are as good as random.
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(GROUP))
            .set_key_value_metadata(Some(vec![
                KeyValue::new(CURSOR.into(), cursor),
                KeyValue::new(FIRST.into(), first.to_string()),
            ]))
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
        let mut file = AtomicFile::create(&path).map_err(Error::io(&path))?;
        let writer = ArrowWriter::try_new(file.as_file(), schema(), Some(properties));
        let mut writer = writer.map_err(|e| failed(&e))?;
        writer.write(&batch).map_err(|e| failed(&e))?;
        writer.close().map_err(|e| failed(&e))?;
        file.commit().map_err(Error::io(&path))?;
        Ok(Self::new(self.index + self.stride, self.stride))
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
