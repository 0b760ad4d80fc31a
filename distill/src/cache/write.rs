//! Runs a teacher over the rows of a run and writes a cache.
//!
//! In: a recipe with a teacher. Out: the cache's directory, resumed from where it was left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use retort_comm::ProcessGroup;
use retort_data::{Cursor, Data, Rank};
use retort_tokenizer::Tokenizer;
use retort_train::{BatchTensors, Recipe};

use super::format::{RowFormat, Sparsification};
use super::header::{Header, VERSION};
use super::rank_rows::RankRows;
use super::read::LogitCache;
use super::shard_writer::{SHARD_POSITIONS, ShardWriter, encode_rows};
use super::shards::{CURSOR, Shard, complete_rows, list_shards};
use crate::config::TeacherConfig;
use crate::error::{Error, Result};
use crate::teacher::{fingerprint, load_teacher};

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// The entries of a distribution that are kept.
    pub sparsification: Sparsification,
    /// The number of rows; by default as many as the recipe's run takes.
    pub rows: Option<u64>,
}

/// How far writing is.
#[derive(Clone, Copy, Debug)]
pub struct WriteProgress {
    /// Rows written.
    pub rows: u64,
    /// Rows in all.
    pub total_rows: u64,
    /// Positions computed since this call started, for the speed.
    pub positions: u64,
}

/// The outcome of writing.
#[derive(Clone, Copy, Debug)]
pub struct WriteSummary {
    /// Rows in the cache.
    pub rows: u64,
    /// Rows that the cache was to have.
    pub total_rows: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Bytes for each position.
    pub bytes_per_token: f64,
    /// Positions computed since this call started.
    pub positions: u64,
    /// Seconds of computing and writing, without loading.
    pub seconds: f64,
}

/// Writes what the teacher of `recipe` says about the run's rows into `dir`, resuming what is
/// there. Setting `stop` ends it after the current batch, and nothing is lost. The ranks of
/// `group` divide the rows among them and write shards of their own into the same `dir`.
///
/// # Errors
/// Anything wrong with the recipe, the teacher or the data; a `dir` with another cache.
pub fn write(
    group: &ProcessGroup,
    recipe: &Recipe,
    dir: &Path,
    options: WriteOptions,
    device: &Device,
    stop: &AtomicBool,
    progress: &dyn Fn(WriteProgress),
) -> Result<WriteSummary> {
    let config = TeacherConfig::of(recipe)?;
    let path = config.path.as_ref().ok_or_else(|| {
        Error::Config("path: is missing: a cache is written by a teacher that runs".into())
    })?;
    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None)?);
    let teacher = load_teacher(path, &tokenizer, device)?;
    let rows = RowFormat::of(recipe);
    let header = Header {
        version: VERSION,
        teacher: fingerprint(path)?,
        tokenizer: format!("{:016x}", tokenizer.fingerprint()),
        // Rows past the last token are padding, in the teacher's table or the student's.
        vocabulary: teacher.vocab_size().min(tokenizer.vocab_size()),
        temperature: config.temperature,
        sparsification: options.sparsification,
        // The count may change when writing is resumed.
        rows: RowFormat { count: 0, ..rows },
        seed: recipe.seed,
    };
    // The main rank makes the directory before the others check it.
    if !group.is_main() {
        group.barrier();
    }
    header.claim(dir)?;
    let shards = list_shards(dir)?;
    let cursor = resume_cursor(dir, &shards)?;
    let data = Data::open(
        &recipe.data,
        &tokenizer,
        Some(dir),
        cursor.as_ref(),
        &|_| {},
    )?;
    if group.is_main() {
        group.barrier();
    }
    check_same_directory(group, dir, &shards)?;
    let total_rows = options.rows.unwrap_or(rows.count);
    let batch_size = recipe.train.batch_size;
    let mut batches = data.batches(batch_size, Rank::default(), cursor.as_ref())?;
    let max_block = SHARD_POSITIONS / rows.seq_len;
    let mine = RankRows::new(group, &shards, total_rows, max_block, batch_size);
    let next_index = shards.iter().map(|s| s.index + 1).max().unwrap_or(0);
    let mut shard = ShardWriter::new(next_index + group.rank(), group.size());
    let (start, already) = (Instant::now(), mine.written());
    let (mut written, mut positions) = (0, 0);
    // The ranks take steps together, so that all of them stop at the same one.
    let positions = loop {
        let (batch, before) = mine.next_batch(&mut batches)?;
        let counts = [
            written,
            positions,
            u64::from(batch.is_some()),
            u64::from(stop.load(Ordering::Relaxed)),
        ];
        let all = group.all_gather_f64(&counts.map(|n| n as f64));
        let sum = |i: usize| all.iter().map(|counts| counts[i]).sum::<f64>() as u64;
        let [written_by_all, positions_of_all, batches_left, stops] = [0, 1, 2, 3].map(sum);
        progress(WriteProgress {
            rows: (already + written_by_all).min(total_rows),
            total_rows,
            positions: positions_of_all,
        });
        let Some(batch) = batch.filter(|_| stops == 0) else {
            shard = shard.finish(dir, Some(&before))?;
            if batches_left == 0 || stops > 0 {
                break positions_of_all;
            }
            continue;
        };
        let first = batch.first_row().unwrap_or_default();
        if shard.end() != Some(first) {
            shard = shard.finish(dir, Some(&before))?;
        }
        let tensors =
            BatchTensors::new(&batch, device).within_documents(&batch, rows.document_attention);
        let logits = teacher.logits(&tensors)?;
        for row in encode_rows(&batch, &logits, &header) {
            if mine.is_written(row.number) {
                // The next rows are there, so that nothing resumes from the cursor before them.
                shard = shard.finish(dir, None)?;
                continue;
            }
            shard.rows.push(row);
            written += 1;
        }
        positions += batch.inputs.len() as u64;
        if shard.is_due(rows.seq_len) || !mine.contains(first + batch.rows as u64) {
            shard = shard.finish(dir, Some(&batches.cursor()))?;
        }
    };
    group.barrier();
    let cache = LogitCache::open(dir)?;
    let bytes = cache.bytes()?;
    Ok(WriteSummary {
        rows: cache.rows(),
        total_rows,
        bytes,
        bytes_per_token: bytes as f64 / (cache.rows() * rows.seq_len as u64).max(1) as f64,
        positions,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The data's cursor after the last row before the first gap; `None` for an empty cache.
fn resume_cursor(dir: &Path, shards: &[Shard]) -> Result<Option<Cursor>> {
    let Some(last) = complete_rows(shards).1 else {
        return Ok(None);
    };
    serde_json::from_str(last.entry(CURSOR).unwrap_or_default())
        .map(Some)
        .map_err(|e| Error::cache(dir, format!("the last shard's cursor: {e}")))
}

/// Checks that all ranks see the same shards.
fn check_same_directory(group: &ProcessGroup, dir: &Path, shards: &[Shard]) -> Result<()> {
    let seen = [shards.len() as f64, complete_rows(shards).0 as f64];
    if group
        .all_gather_f64(&seen)
        .iter()
        .all(|other| *other == seen)
    {
        return Ok(());
    }
    let reason =
        "is not the same directory on all ranks: choose an --out that their machines share";
    Err(Error::cache(dir, reason))
}
