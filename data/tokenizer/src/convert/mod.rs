//! Tokenizer files of other forms to a `tokenizer.json` that gives the same ids.

mod sentencepiece;
mod tiktoken;

use std::path::Path;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json;

/// Bytes of the largest file that is converted; published ones take up to 5 MB.
const LARGEST_FILE: usize = 64 << 20;
/// File names that a directory is searched for, in this order.
const NAMES: [&str; 3] = ["tokenizer.json", "qwen.tiktoken", "tokenizer.model"];

/// Reads `path` in whatever form it is: a `tokenizer.json`, a `.tiktoken` list of ranks (Qwen v1),
/// a SentencePiece `tokenizer.model`, or a directory that holds one of these.
///
/// A `.json` file is known by its name, the other two by their contents.
///
/// # Errors
///
/// Those of [`Tokenizer::from_file`]; [`Error::Invalid`] for a list of ranks or a SentencePiece
/// model that is damaged (with the line or the piece), or of a kind that is not converted.
pub fn convert(path: impl AsRef<Path>) -> Result<Tokenizer> {
    let path = path.as_ref();
    if path.is_dir() {
        let found = NAMES
            .map(|name| path.join(name))
            .into_iter()
            .find(|file| file.is_file());
        return match found {
            Some(file) => convert(file),
            None => Err(Error::invalid(
                path,
                format!("none of {} is in this directory", NAMES.join(", ")),
            )),
        };
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return Tokenizer::from_json_file(path, None);
    }
    let bytes = tokenizer_json::read(path)?;
    if bytes.len() > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        let reason = format!("larger than {limit} MiB, so neither ranks nor a SentencePiece model");
        return Err(Error::invalid(path, reason));
    }
    if tiktoken::looks_like_it(&bytes) {
        tiktoken::from_bytes(path, &bytes)
    } else {
        sentencepiece::from_bytes(path, &bytes)
    }
}
