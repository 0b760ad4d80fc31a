//! `pack.json`: what a pretokenized directory holds, and whether it is what a recipe asks for.

use std::path::Path;

use retort_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, Filter, Packing};
use crate::cursor::Identity;
use crate::error::{Error, Result};
use crate::stats::Stats;

/// Version of the directory's form.
pub(super) const VERSION: u32 = 1;
/// The file whose presence makes a directory a packed one.
pub(super) const INDEX: &str = "pack.json";
/// How far an unfinished pack has come.
pub(super) const STATE: &str = "progress.json";
/// The held-out rows.
pub(super) const VALIDATION: &str = "validation.arrow";
/// Rows in a file: 256 MB of ids at a `seq_len` of 2,048 and 16 bits.
pub const ROWS_A_FILE: usize = 1 << 16;

/// The training rows of `config`'s sources, if all of them are packed directories; text is not
/// counted without reading it.
///
/// # Errors
/// An index that cannot be read.
pub fn pretokenized_rows(config: &DataConfig) -> Result<Option<u64>> {
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
    #[serde(rename = "counts")]
    pub stats: Stats,
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
    /// [`Error::Pretokenized`] if it is not whole yet.
    pub(crate) fn is_source(directory: &Path) -> Result<bool> {
        if !Self::is_in(directory) && directory.join(STATE).is_file() {
            return Err(Error::pretokenized(
                directory,
                "holds an unfinished pack: run `retort data pack` on it again",
            ));
        }
        Ok(Self::is_in(directory))
    }

    /// Reads `pack.json`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(INDEX);
        let bad = |reason: String| Error::pretokenized(path.clone(), reason);
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
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

    /// Whether the rows are what `config` asks for.
    pub(crate) fn check(
        &self,
        directory: &Path,
        config: &DataConfig,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let differs = |what: String| {
            Err(Error::pretokenized(
                directory.join(INDEX),
                format!("{what}: pack it again, or change the recipe"),
            ))
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
}

/// The file of source `source` with number `file`.
pub(super) fn file_name(source: usize, file: usize) -> String {
    format!("{source}/{file:05}.arrow")
}
