//! The files of a checkpoint that are not weights: tokenizer, chat template, generation settings.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Files beside the weights that belong to a model, by name or by ending.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.json",
    ".jinja",
    ".tiktoken",
];

/// Copies the tokenizer, chat template and generation settings of one checkpoint into
/// another.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_companions(source: &Path, directory: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().map_err(Error::io(path));
    if real(source)? == real(directory)? {
        return Ok(());
    }
    for entry in fs::read_dir(source).map_err(Error::io(source))? {
        let path = entry.map_err(Error::io(source))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let companion = |c: &str| name == c || c.starts_with('.') && name.ends_with(c);
        if COMPANIONS.iter().any(|c| companion(c)) && path.is_file() {
            fs::copy(&path, directory.join(name)).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}
