//! A cache in place of a teacher.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use retort_data::{Tokenizer, guarded};
use retort_model::{Sparse, Tail, TeacherLogits};
use retort_train::BatchTensors;

use super::codec::{Position, decode, probability};
use super::header::Header;
use super::{Choice, Rows, checksum};
use crate::config::TeacherConfig;
use crate::error::{Error, Result};
use crate::teacher::{Teach, fingerprint};

/// An open cache.
pub struct Cache {
    dir: PathBuf,
    header: Header,
    shards: Vec<Shard>,
    /// The row group read last: its shard and place in it, and its rows.
    last: Mutex<Option<([usize; 2], RecordBatch)>>,
}

/// Where a shard's metadata has its first row's place.
pub(super) const FIRST: &str = "retort.first";

/// A file of the cache.
pub(super) struct Shard {
    path: PathBuf,
    /// The number in its name.
    pub index: usize,
    /// Its first row's place.
    pub first: u64,
    metadata: ArrowReaderMetadata,
}

impl Shard {
    /// The place after its last row.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.rows())
    }

    fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows() as u64
    }

    /// What the shard's writer wrote under `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self
            .metadata
            .metadata()
            .file_metadata()
            .key_value_metadata();
        let note = notes?.iter().find(|note| note.key == key);
        note?.value.as_deref()
    }
}

/// The shards in `dir` by the rows that they have. Their files' numbers say nothing about that where several ranks
/// wrote them.
pub(super) fn shards(dir: &Path) -> Result<Vec<Shard>> {
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
        let metadata = guarded(load).map_err(|e| Error::cache(&path, e))?;
        let mut shard = Shard {
            path,
            index,
            first: rows,
            metadata,
        };
        // One without a note is from when shards had their rows in the order of their numbers.
        if let Some(first) = shard.note(FIRST).and_then(|note| note.parse().ok()) {
            shard.first = first;
        }
        rows += shard.rows();
        shards.push(shard);
    }
    shards.sort_by_key(|shard| shard.first);
    Ok(shards)
}

/// How many rows `shards` have from the first on without a gap, and the last shard of those.
pub(super) fn whole(shards: &[Shard]) -> (u64, Option<&Shard>) {
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

pub(super) fn shard_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("logits-{index:05}.parquet"))
}

impl Cache {
    /// Opens `dir`.
    ///
    /// # Errors
    /// It is not a cache, or a shard of it is damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::cache(
                dir,
                "is not a directory: write it with `retort distill cache`",
            ));
        }
        let header = Header::read(dir)?;
        let shards = shards(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            header,
            shards,
            last: Mutex::new(None),
        })
    }

    /// Rows that it has, from the first on.
    pub fn rows(&self) -> u64 {
        whole(&self.shards).0
    }

    /// Bytes of all its files.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn bytes(&self) -> Result<u64> {
        let size = |s: &Shard| {
            fs::metadata(&s.path)
                .map(|m| m.len())
                .map_err(Error::io(&s.path))
        };
        self.shards.iter().map(size).sum()
    }

    /// Holds it to a recipe: `config`, the student's `tokenizer`, and its `rows`.
    ///
    /// # Errors
    /// [`Error::Cache`] says what is not the recipe's.
    pub fn check(&self, config: &TeacherConfig, tokenizer: &Tokenizer, rows: &Rows) -> Result<()> {
        let h = &self.header;
        let differ = |what: &str, here: String, wanted: String, remedy: &str| {
            let problem = format!("is for {what} {here}, the recipe has {wanted}: {remedy}");
            Err(Error::cache(&self.dir, problem))
        };
        let again = "write another with `retort distill cache`";
        let ours = format!("{:016x}", tokenizer.fingerprint());
        if h.tokenizer != ours {
            let remedy = "set data.tokenizer to the cache's, or write another";
            return differ("the tokenizer", h.tokenizer.clone(), ours, remedy);
        }
        if h.temperature != config.temperature {
            let wanted = config.temperature.to_string();
            return differ("temperature", h.temperature.to_string(), wanted, again);
        }
        let (theirs, ours) = (h.rows, *rows);
        if theirs.seq_len != ours.seq_len {
            let (a, b) = (theirs.seq_len.to_string(), ours.seq_len.to_string());
            return differ("data.seq_len", a, b, again);
        }
        if theirs.document_attention != ours.document_attention {
            let (a, b) = (theirs.document_attention, ours.document_attention);
            return differ(
                "train.document_attention",
                a.to_string(),
                b.to_string(),
                again,
            );
        }
        if matches!(h.choice, Choice::Sampled { .. }) {
            let other = config.losses.divergences().find(|d| *d != "forward_kl");
            if let Some(other) = other {
                return Err(Error::cache(
                    &self.dir,
                    format!(
                        "holds samples, from which only forward_kl can be estimated: drop \
                         teacher.losses.{other}, or write another with --top-k"
                    ),
                ));
            }
        }
        if self.rows() < ours.count {
            let problem = format!(
                "has {} rows, the recipe's run takes {}: go on writing it with `retort distill cache`, or \
                 train for fewer steps",
                self.rows(),
                ours.count
            );
            return Err(Error::cache(&self.dir, problem));
        }
        Ok(())
    }

    /// Holds it to the teacher at `path`, whose weights are read for it.
    ///
    /// # Errors
    /// It is of another teacher.
    pub fn check_teacher(&self, path: &Path) -> Result<()> {
        let found = fingerprint(path)?;
        match found == self.header.teacher {
            true => Ok(()),
            false => Err(Error::cache(
                &self.dir,
                format!(
                    "is of a teacher with hash {}, {} has {found}: write another, or leave \
                     teacher.path away",
                    self.header.teacher,
                    path.display()
                ),
            )),
        }
    }

    /// The positions of row `row`, whose input ids have the checksum `ids` if there is one to
    /// hold them to.
    fn row(&self, row: u64, ids: Option<u32>) -> Result<Vec<Position>> {
        let after = self.shards.partition_point(|s| s.first <= row);
        let shard = after.checked_sub(1).filter(|&s| row < self.shards[s].end());
        let Some(index) = shard else {
            let problem = format!("has {} rows, and none with number {row}", self.rows());
            return Err(Error::cache(&self.dir, problem));
        };
        let shard = &self.shards[index];
        let wrong = |what: String| Error::cache(&shard.path, format!("row {row}: {what}"));
        let mut place = (row - shard.first) as usize;
        let mut group = 0;
        for (i, g) in shard.metadata.metadata().row_groups().iter().enumerate() {
            group = i;
            let rows = g.num_rows() as usize;
            if place < rows {
                break;
            }
            place -= rows;
        }
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if !matches!(&*last, Some((at, _)) if *at == [index, group]) {
            let batch = guarded(|| read_group(shard, group)).map_err(wrong)?;
            *last = Some(([index, group], batch));
        }
        let Some((_, batch)) = &*last else {
            return Err(wrong("cannot be read".into()));
        };
        if place >= batch.num_rows() {
            return Err(wrong("is missing".into()));
        }
        let number = batch.column(0).as_primitive::<UInt64Type>().value(place);
        let checksums = [1, 2].map(|i| batch.column(i).as_primitive::<UInt32Type>().value(place));
        let [of, check] = checksums;
        if number != row {
            return Err(wrong(format!("has number {number}: write the cache again")));
        }
        if ids.is_some_and(|ids| ids != of) {
            return Err(wrong(
                "is of other text than the recipe's: use the recipe's [data] that it was written with, \
                 or write it again"
                    .into(),
            ));
        }
        let bytes = batch.column(3).as_binary::<i32>().value(place);
        if crc32c::crc32c(bytes) != check {
            return Err(wrong("is damaged: write the cache again".into()));
        }
        let (count, vocabulary) = (self.header.rows.seq_len, self.header.vocabulary);
        decode(bytes, count, vocabulary).map_err(|e| wrong(e.to_string()))
    }
}

/// A row group, with the columns that it should have.
fn read_group(shard: &Shard, group: usize) -> std::result::Result<RecordBatch, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let file = File::open(&shard.path).map_err(|e| text(&e))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, shard.metadata.clone());
    let rows = shard.metadata.metadata().row_group(group).num_rows() as usize;
    let mut reader = builder
        .with_row_groups(vec![group])
        .with_batch_size(rows.max(1))
        .build()
        .map_err(|e| text(&e))?;
    let batch = reader.next().ok_or("has no rows")?.map_err(|e| text(&e))?;
    match batch.schema().fields() == super::write::schema().fields() {
        true => Ok(batch),
        false => Err("has other columns than a cache".into()),
    }
}

impl Teach for Cache {
    fn lesson(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
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
            let positions = match batch.first_row {
                Some(first) => self.row(first + i as u64, Some(checksum(&ids[i * t..][..t])))?,
                // Made-up rows are for measuring: any row's positions do.
                None => self.row(i as u64 % self.rows().max(1), None)?,
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
        sparse.tail = match self.header.choice {
            Choice::TopK { .. } => Tail::Mass(rest),
            Choice::Sampled { .. } => Tail::Sampled(rest),
        };
        Ok(TeacherLogits::Sparse(sparse))
    }

    fn vocabulary(&self) -> usize {
        self.header.vocabulary
    }
}
