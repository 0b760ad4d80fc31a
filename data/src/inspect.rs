//! What a source holds: schema, rows and bytes of each shard, and how fast it tokenizes.

use std::path::Path;
use std::time::Instant;

use arrow::datatypes::Fields;
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::progress::DocumentProgress;
use crate::read::Reader;
use crate::source::Shards;
use retort_tokenizer::Tokenizer;

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
    /// Its path, or its place on the hub.
    pub name: String,
    /// Columns in the file's order; none for JSON lines.
    pub columns: Vec<Column>,
    /// Rows, nulls included, as the footer says; absent for JSON lines.
    pub rows: Option<u64>,
    /// Row groups.
    pub row_groups: usize,
    /// Size on disk in bytes.
    pub file_bytes: u64,
    /// Rows read whose text is not null.
    pub documents: u64,
    /// UTF-8 bytes of the text read.
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
    /// Shards in the source.
    pub shards_in_all: usize,
    /// The shards that were read, in order.
    pub shards: Vec<ShardInfo>,
}

/// Documents tokenized at a time …
const CHUNK_DOCUMENTS: usize = 4096;
/// … or bytes of text.
const CHUNK_BYTES: usize = 8 << 20;

/// Reads the documents of `shards`, no more than `most` of them, and tokenizes them if there is a
/// tokenizer.
///
/// # Errors
///
/// Any error of reading or tokenizing.
pub fn inspect(
    shards: &Shards,
    tokenizer: Option<&Tokenizer>,
    most: u64,
    progress: &dyn Fn(DocumentProgress),
) -> Result<Inspection> {
    let start = Instant::now();
    let mut infos = Vec::new();
    let (mut documents, mut tokens) = (0, 0);
    for i in 0..shards.len() {
        if documents >= most {
            break;
        }
        let held = shards.open(i, &[i + 1, i + 2].map(|i| i.min(shards.len() - 1)))?;
        let reader = Reader::open(&held)?;
        let mut info = shard_info(shards.name(i), &held, &reader)?;
        for segment in 0..reader.segments() {
            let left = usize::try_from(most - documents).unwrap_or(usize::MAX);
            let texts = reader
                .rows(segment, 0)?
                .filter_map(|row| row.map(|(_, text)| text).transpose())
                .take(left);
            let (read, bytes, ids) = count(texts, tokenizer)?;
            documents += read;
            tokens += ids;
            info.documents += read;
            info.text_bytes += bytes;
            let shard = (segment + 1) as f64 / reader.segments() as f64;
            progress(DocumentProgress {
                what: "inspect",
                fraction: (i as f64 + shard) / shards.len() as f64,
                documents,
            });
        }
        infos.push(info);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Inspection {
        documents,
        bytes: infos.iter().map(|s| s.text_bytes).sum(),
        tokens: tokenizer.map(|_| tokens),
        tokens_per_second: tokenizer.map(|_| tokens as f64 / seconds.max(1e-9)),
        seconds,
        shards_in_all: shards.len(),
        shards: infos,
    })
}

/// Documents, bytes and tokens of `texts`; while a chunk is tokenized the next is read.
fn count(
    mut texts: impl Iterator<Item = Result<String>> + Send,
    tokenizer: Option<&Tokenizer>,
) -> Result<(u64, u64, u64)> {
    let (mut documents, mut bytes, mut tokens) = (0, 0, 0);
    let mut chunk = read_chunk(&mut texts)?;
    while !chunk.is_empty() {
        documents += chunk.len() as u64;
        bytes += chunk.iter().map(|text| text.len() as u64).sum::<u64>();
        let (next, ids) = rayon::join(
            || read_chunk(&mut texts),
            || match tokenizer {
                Some(tokenizer) => chunk
                    .par_iter()
                    .map(|text| Ok(tokenizer.encode(text)?.len() as u64))
                    .sum::<Result<u64>>(),
                None => Ok(0),
            },
        );
        tokens += ids?;
        chunk = next?;
    }
    Ok((documents, bytes, tokens))
}

fn read_chunk(texts: &mut impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < CHUNK_DOCUMENTS && bytes < CHUNK_BYTES {
        let Some(text) = texts.next() else {
            break;
        };
        let text = text?;
        bytes += text.len();
        chunk.push(text);
    }
    Ok(chunk)
}

/// What can be said of a shard before its text is read.
fn shard_info(name: String, path: &Path, reader: &Reader) -> Result<ShardInfo> {
    let file_bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let fields = match reader {
        Reader::Parquet(shard) => shard.schema().fields(),
        Reader::JsonLines(_) => &Fields::empty(),
    };
    let columns = fields
        .iter()
        .map(|f| Column {
            name: f.name().clone(),
            kind: f.data_type().to_string(),
        })
        .collect();
    Ok(ShardInfo {
        name,
        columns,
        rows: reader.row_count(),
        row_groups: reader.segments(),
        file_bytes,
        documents: 0,
        text_bytes: 0,
    })
}
