//! Reading a `tokenizer.json` that may hold anything: bounded in size, and a panic of the library
//! that parses it is an error like any other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

use super::fast::{Fast, recognise};
use crate::error::{Error, Result};
use crate::guard::quietly;

/// Bytes of the largest tokenizer file that is read; the published ones take up to 35 MB.
const LARGEST_FILE: u64 = 256 << 20;

/// Words whose ids `tokenizers` remembers on each thread, where it encodes. Its own 10,000 fill up
/// within the first megabytes of web text; this many take about 20 MB a thread.
const CACHED_WORDS: usize = 1 << 17;

/// A parsed tokenizer.
pub(super) struct Opened {
    pub(super) inner: Tokenizer,
    /// Or why there is none.
    pub(super) fast: std::result::Result<Fast, String>,
    /// The largest id, below 2³¹.
    pub(super) last_id: u32,
}

/// Reads a whole file of at most [`LARGEST_FILE`] bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(path, "read the tokenizer", e);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if size <= LARGEST_FILE {
        // What is no regular file has no size of its own.
        file.take(LARGEST_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if size.max(bytes.len() as u64) > LARGEST_FILE {
        return Err(Error::Tokenizer {
            path: path.to_owned(),
            reason: format!("larger than {} MiB, so not a tokenizer", LARGEST_FILE >> 20),
        });
    }
    Ok(bytes)
}

/// The `tokenizer_config.json` beside `file`, if there is one.
pub(super) fn config_beside(file: &Path) -> Result<Option<Value>> {
    let path = file.with_file_name("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let config = serde_json::from_slice(&read(&path)?).map_err(|e| Error::Tokenizer {
        path,
        reason: format!("not valid JSON: {e}"),
    })?;
    Ok(Some(config))
}

/// Parses a `tokenizer.json`.
pub(super) fn open(json: &[u8]) -> std::result::Result<Opened, String> {
    let mut inner = guarded(|| Tokenizer::from_bytes(json))
        .map_err(|e| format!("not a Hugging Face tokenizer.json: {e}"))?;
    inner.with_padding(None);
    guarded(|| inner.with_truncation(None).map(|_| ()))?;
    inner.set_encode_special_tokens(true);
    let fast = guarded(|| recognise(&inner, json));
    let model = match &fast {
        Ok((_, last_id)) => Some(*last_id),
        Err(_) => inner.get_vocab(false).into_values().max(),
    };
    let added = inner.get_added_tokens_decoder().into_keys().max();
    let last_id = model.max(added).ok_or("the vocabulary is empty")?;
    if i32::try_from(last_id).is_err() {
        return Err(format!("the id {last_id} does not fit 31 bits"));
    }
    if fast.is_err()
        && let ModelWrapper::BPE(bpe) = inner.get_model()
    {
        let mut bpe = bpe.clone();
        bpe.resize_cache(CACHED_WORDS);
        inner.with_model(bpe);
    }
    Ok(Opened {
        inner,
        fast: fast.map(|(fast, _)| fast),
        last_id,
    })
}

/// What `work` returns, its error and its panic as text.
pub(super) fn guarded<T, E: ToString>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, String> {
    match quietly(work) {
        Some(result) => result.map_err(|e| e.to_string()),
        None => Err("the tokenizers library fails on it; the file is damaged".into()),
    }
}
