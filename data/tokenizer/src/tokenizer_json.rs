//! Reading a `tokenizer.json` that may hold anything: bounded in size, and a panic of the library
//! that parses it is an error like any other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

use crate::bpe::{ByteLevelBpe, recognise};
use crate::catch_panic::catch_panic_as_error;
use crate::error::{Error, Result};

/// Bytes of the largest tokenizer file that is read; the published ones take up to 35 MB.
const LARGEST_FILE: u64 = 256 << 20;

/// Words whose ids `tokenizers` remembers on each thread, where it encodes. Its own 10,000 fill up
/// within the first megabytes of web text; this many take about 20 MB a thread.
const CACHED_WORDS: usize = 1 << 17;

/// The error when the `tokenizers` crate panics.
pub(crate) const LIBRARY_FAILED: &str = "the tokenizers library fails on it; the file is damaged";

/// A parsed tokenizer.
pub(crate) struct Opened {
    pub(crate) inner: Tokenizer,
    /// Or why there is none.
    pub(crate) fast: std::result::Result<ByteLevelBpe, String>,
    /// The largest id, below 2³¹.
    pub(crate) last_id: u32,
}

/// Reads a whole file of at most [`LARGEST_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut bytes = Vec::new();
    if size <= LARGEST_FILE {
        // What is no regular file has no size of its own.
        file.take(LARGEST_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(path))?;
    }
    if size.max(bytes.len() as u64) > LARGEST_FILE {
        let reason = format!("larger than {} MiB, so not a tokenizer", LARGEST_FILE >> 20);
        return Err(Error::invalid(path, reason));
    }
    Ok(bytes)
}

/// The `tokenizer_config.json` beside `file`, if there is one.
pub(crate) fn config_beside(file: &Path) -> Result<Option<Value>> {
    let path = file.with_file_name("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    serde_json::from_slice(&read(&path)?)
        .map(Some)
        .map_err(|e| Error::invalid(&path, format!("not valid JSON: {e}")))
}

/// A `tokenizer_config.json` that names the tokens at the beginning and the end of a text, and the
/// one for what is unknown.
pub(crate) fn config(bos: Option<&str>, eos: &str, unknown: Option<&str>) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unknown,
        "clean_up_tokenization_spaces": false,
    })
}

/// An entry of `added_tokens`.
pub(crate) fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// Parses a `tokenizer.json`.
pub(crate) fn open(json: &[u8]) -> std::result::Result<Opened, String> {
    let mut inner = catch_panic_as_error(LIBRARY_FAILED, || Tokenizer::from_bytes(json))
        .map_err(|e| format!("not a Hugging Face tokenizer.json: {e}"))?;
    inner.with_padding(None);
    catch_panic_as_error(LIBRARY_FAILED, || inner.with_truncation(None).map(|_| ()))?;
    inner.set_encode_special_tokens(true);
    let fast = catch_panic_as_error(LIBRARY_FAILED, || recognise(&inner, json));
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
