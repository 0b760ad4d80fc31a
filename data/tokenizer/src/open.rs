//! Opens a tokenizer from a file or a model's directory, as they are published.

use std::path::Path;

use crate::convert::convert;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// Reads `path`, a `tokenizer.json` or a directory that holds one. A directory that holds a
    /// `qwen.tiktoken` alone, as Qwen-7B's does, is [converted](crate::convert()), and says so.
    ///
    /// The end-of-text token is `eot` if given, else the `eos_token` of a `tokenizer_config.json`
    /// beside the file, else the first of the usual names that the vocabulary has
    /// (`<|endoftext|>`, `</s>`, `<|im_end|>` …).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::Invalid`](crate::Error::Invalid) if it is not a tokenizer, is
    /// larger than 256 MiB or has no end-of-text token.
    pub fn from_file(path: impl AsRef<Path>, eot: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Self::from_json_file(path, eot);
        }
        let (file, ranks) = (path.join("tokenizer.json"), path.join("qwen.tiktoken"));
        if file.exists() || !ranks.is_file() {
            return Self::from_json_file(&file, eot);
        }
        tracing::warn!("{}: converted to a tokenizer.json", ranks.display());
        let converted = convert(&ranks)?;
        if eot.is_none() {
            return Ok(converted);
        }
        let (json, config) = (converted.json().to_vec(), converted.config().clone());
        Self::from_parts(&ranks, json, Some(config), eot)
    }
}
