//! Rows that were tokenized and packed once: on disk, memory-mapped, at random access.
//!
//! A directory that `retort data pack` wrote:
//!
//! ```text
//! pack.json             what was packed, of what; written last: without it the directory is not whole
//! tokenizer.json        the tokenizer it was packed with
//! S/NNNNN.arrow         rows of source S, as many in each file but the last
//! validation.arrow      held-out rows of all sources
//! ```
//!
//! The files are Arrow IPC files (version 5 of the metadata, not compressed) of the columns `ids`
//! (`FixedSizeList<UInt16 | UInt32>[seq_len + 1]`), `length` (`UInt32`, ids that are no padding) and
//! `starts` (`List<UInt32>`, where documents begin). Source:
//! <https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>.

mod read;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, Filter, Packing};
use crate::counts::Counts;
use crate::cursor::Identity;
use crate::error::{Error, Result};
use crate::row::Row;
use crate::tokenizer::Tokenizer;

pub(crate) use read::{PackedRows, RowFile};
pub use write::{PackReport, pack};

/// Version of the directory's form.
const VERSION: u32 = 1;
/// The file whose presence makes a directory a packed one.
const INDEX: &str = "pack.json";
/// How far an unfinished pack has come.
const STATE: &str = "progress.json";
/// The held-out rows.
const VALIDATION: &str = "validation.arrow";
/// Rows in a file: 256 MB of ids at a `seq_len` of 2,048 and 16 bits.
pub const ROWS_A_FILE: usize = 1 << 16;

/// The training rows of `config`'s sources, if all of them are packed directories; text is not
/// counted without reading it.
///
/// # Errors
/// An index that cannot be read.
pub fn packed_rows(config: &DataConfig) -> Result<Option<u64>> {
    let mut rows = 0;
    for weighted in config.sources() {
        let directory = Path::new(&weighted.source);
        if !Index::is_source(directory)? {
            return Ok(None);
        }
        let sources = Index::read(directory)?.sources;
        rows += sources.iter().map(|s| s.rows as u64).sum::<u64>();
    }
    Ok(Some(rows))
}

/// Rows in a record batch.
const ROWS_A_BATCH: usize = 1 << 10;

/// `pack.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub version: u32,
    pub seq_len: usize,
    pub packing: Packing,
    pub eot: u32,
    pub vocab_size: usize,
    /// Of what the rows were made.
    pub identity: Identity,
    pub sources: Vec<IndexSource>,
    pub validation_rows: usize,
    /// Rows in each file but a source's last.
    pub rows_a_file: usize,
}

/// One source's rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexSource {
    pub source: String,
    /// Share of the rows in training.
    pub weight: f64,
    pub rows: usize,
    pub counts: Counts,
}

impl Index {
    /// Whether `directory` holds packed rows, whole.
    pub(crate) fn is_in(directory: &Path) -> bool {
        directory.join(INDEX).is_file()
    }

    /// Whether `directory` is a source of packed rows.
    ///
    /// # Errors
    ///
    /// [`Error::Packed`] if it is not whole yet.
    pub(crate) fn is_source(directory: &Path) -> Result<bool> {
        if !Self::is_in(directory) && directory.join(STATE).is_file() {
            return Err(Error::Packed {
                path: directory.to_owned(),
                reason: "holds an unfinished pack: run `retort data pack` on it again".into(),
            });
        }
        Ok(Self::is_in(directory))
    }

    /// Reads `pack.json`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(INDEX);
        let bad = |reason: String| Error::Packed {
            path: path.clone(),
            reason,
        };
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read it", e))?;
        let index: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if index.version != VERSION {
            return Err(bad(format!(
                "is of version {}, and this program reads version {VERSION}",
                index.version
            )));
        }
        let vocabulary = 1..=i32::MAX as usize;
        if index.sources.is_empty()
            || !(1..=1 << 24).contains(&index.seq_len)
            || !vocabulary.contains(&index.vocab_size)
            || index.rows_a_file == 0
        {
            return Err(bad(
                "names no source, or an impossible seq_len, vocab_size or rows_a_file".into(),
            ));
        }
        Ok(index)
    }
}

impl Index {
    /// Whether the rows are what `config` asks for.
    pub(crate) fn check(
        &self,
        directory: &Path,
        config: &DataConfig,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let differs = |what: String| {
            Err(Error::Packed {
                path: directory.join(INDEX),
                reason: format!("{what}: pack it again, or change the recipe"),
            })
        };
        if self.seq_len != config.seq_len {
            return differs(format!(
                "its rows are of seq_len {}, data.seq_len is {}",
                self.seq_len, config.seq_len
            ));
        }
        if self.packing != config.packing {
            return differs("it was packed with another data.packing".into());
        }
        if config.filter != Filter::default() {
            return differs("it is packed, which data.filter comes too late for".into());
        }
        if self.identity.tokenizer != format!("{:016x}", tokenizer.fingerprint()) {
            return differs("it was packed with another tokenizer".into());
        }
        Ok(())
    }

    /// Up to `most` held-out rows.
    pub(crate) fn validation(&self, directory: &Path, most: usize) -> Result<Vec<Row>> {
        if self.validation_rows == 0 || most == 0 {
            return Ok(Vec::new());
        }
        let path = directory.join(VALIDATION);
        let file = RowFile::open(&path, self)?;
        if file.len() != self.validation_rows {
            return Err(Error::Packed {
                path,
                reason: "does not hold the rows that pack.json names".into(),
            });
        }
        (0..most.min(file.len())).map(|i| file.row(i)).collect()
    }
}

/// The file of source `source` with number `file`.
fn file_name(source: usize, file: usize) -> String {
    format!("{source}/{file:05}.arrow")
}
