//! Tokenizer files of other forms to a `tokenizer.json` that gives the same ids.

mod sentencepiece;
mod tiktoken;

use std::path::Path;

use serde_json::Value;

use super::{Tokenizer, open};
use crate::error::{Error, Result};

pub use sentencepiece::convert_sentencepiece;
pub use tiktoken::convert_tiktoken;

/// File names that a directory is searched for, in this order.
const NAMES: [&str; 3] = ["tokenizer.json", "qwen.tiktoken", "tokenizer.model"];

/// Reads `path` in whatever form it is: a `tokenizer.json`, a `.tiktoken` list of ranks (Qwen v1),
/// a SentencePiece `tokenizer.model`, or a directory that holds one of these.
///
/// A `.json` file is known by its name, the other two by their contents.
///
/// # Errors
///
/// Those of [`Tokenizer::from_file`], [`convert_tiktoken`] and [`convert_sentencepiece`].
pub fn convert(path: impl AsRef<Path>) -> Result<Tokenizer> {
    let path = path.as_ref();
    if path.is_dir() {
        let found = NAMES
            .map(|name| path.join(name))
            .into_iter()
            .find(|file| file.is_file());
        return match found {
            Some(file) => convert(file),
            None => Err(wrong(
                path,
                format!("none of {} is in this directory", NAMES.join(", ")),
            )),
        };
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return Tokenizer::from_file(path, None);
    }
    let bytes = open::read(path)?;
    if tiktoken::looks_like_it(&bytes) {
        tiktoken::from_bytes(path, &bytes)
    } else {
        sentencepiece::from_bytes(path, &bytes)
    }
}

/// The tokenizer that a converted file describes.
fn made(path: &Path, json: &Value, config: Value, eot: &str) -> Result<Tokenizer> {
    let json = serde_json::to_vec(json).map_err(|e| wrong(path, e.to_string()))?;
    Tokenizer::from_parts(path, json, Some(config), Some(eot))
}

fn wrong(path: &Path, reason: impl Into<String>) -> Error {
    Error::Tokenizer {
        path: path.to_owned(),
        reason: reason.into(),
    }
}
