//! What a source holds: schema, rows and bytes of each shard, and how fast it tokenizes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::datatypes::DataType;
use serde::Serialize;

use crate::documents::{Shard, documents};
use crate::encode::{Progress, encode_all};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// How a shard's `timestamp` column is stored; it is never read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampKind {
    /// A timestamp; the unit as Arrow names it (`s`, `ms`, `µs`, `ns`).
    Timestamp(String),
    /// A string, as in `2019-04-25T12:57:54Z`.
    String,
    /// A column of nulls without a type.
    Null,
    /// No such column.
    Absent,
    /// Something else, by its Arrow type.
    Other(String),
}

/// A column of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardInfo {
    /// The file.
    pub path: PathBuf,
    /// Columns in the file's order.
    pub columns: Vec<Column>,
    /// How `timestamp` is stored.
    pub timestamp: TimestampKind,
    /// Rows, nulls included.
    pub rows: u64,
    /// Row groups.
    pub row_groups: usize,
    /// Size on disk in bytes.
    pub file_bytes: u64,
    /// Rows whose text is not null; 0 until the text has been read.
    pub documents: u64,
    /// UTF-8 bytes of the text; 0 until the text has been read.
    pub text_bytes: u64,
}

/// The figures of `retort data inspect`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Documents: rows whose text is not null.
    pub documents: u64,
    /// UTF-8 bytes of their text.
    pub bytes: u64,
    /// Tokens without end-of-text ids; absent without a tokenizer.
    pub tokens: Option<u64>,
    /// Tokens a second of reading and tokenizing on all threads; absent without a tokenizer.
    pub tokens_per_second: Option<f64>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// The shards in order.
    pub shards: Vec<ShardInfo>,
}

/// What the footer of `path` says; no text is read.
///
/// # Errors
///
/// As for opening the shard.
pub fn shard_info(path: &Path) -> Result<ShardInfo> {
    let shard = Shard::open(path)?;
    let file_bytes = std::fs::metadata(path)
        .map_err(|e| Error::io(path, "read it", e))?
        .len();
    let schema = shard.metadata.schema();
    let timestamp = match schema
        .column_with_name("timestamp")
        .map(|(_, f)| f.data_type())
    {
        None => TimestampKind::Absent,
        Some(DataType::Timestamp(unit, _)) => TimestampKind::Timestamp(unit.to_string()),
        Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => TimestampKind::String,
        Some(DataType::Null) => TimestampKind::Null,
        Some(other) => TimestampKind::Other(other.to_string()),
    };
    let columns = schema
        .fields()
        .iter()
        .map(|f| Column {
            name: f.name().clone(),
            kind: f.data_type().to_string(),
        })
        .collect();
    Ok(ShardInfo {
        path: path.to_owned(),
        columns,
        timestamp,
        rows: shard.rows(),
        row_groups: shard.metadata.metadata().num_row_groups(),
        file_bytes,
        documents: 0,
        text_bytes: 0,
    })
}

/// Reads every document of `paths`, and tokenizes it if there is a tokenizer.
///
/// # Errors
///
/// Any error of reading or tokenizing.
pub fn inspect(
    paths: &[PathBuf],
    tokenizer: Option<&Tokenizer>,
    progress: &dyn Fn(Progress),
) -> Result<Inspection> {
    let start = Instant::now();
    let mut shards = paths
        .iter()
        .map(|path| shard_info(path))
        .collect::<Result<Vec<_>>>()?;
    let total = shards.iter().map(|s| s.rows).sum();
    let mut tokens = 0;
    encode_all(
        documents(paths),
        tokenizer,
        |document, ids| {
            let shard = &mut shards[document.shard];
            shard.documents += 1;
            shard.text_bytes += document.text.len() as u64;
            tokens += ids.len() as u64;
        },
        |done| progress(Progress { done, total }),
    )?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Inspection {
        documents: shards.iter().map(|s| s.documents).sum(),
        bytes: shards.iter().map(|s| s.text_bytes).sum(),
        tokens: tokenizer.map(|_| tokens),
        tokens_per_second: tokenizer.map(|_| tokens as f64 / seconds.max(1e-9)),
        seconds,
        shards,
    })
}
