//! The files of a checkpoint that are not weights: tokenizer, chat template, generation settings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The settings of generation: the ids that end an answer, how it is sampled.
const GENERATION_CONFIG: &str = "generation_config.json";
/// The files that a tokenizer writes itself.
const TOKENIZER: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];
/// Files beside the weights that belong to a model, by name or by ending.
const COMPANIONS: &[&str] = &[
    GENERATION_CONFIG,
    TOKENIZER[0],
    TOKENIZER[1],
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
    for (name, path) in companions(source)? {
        fs::copy(&path, directory.join(name)).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// The files in `directory` that [`COMPANIONS`] names, by name.
fn companions(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let companion = |c: &str| name == c || c.starts_with('.') && name.ends_with(c);
        if COMPANIONS.iter().any(|c| companion(c)) && path.is_file() {
            found.insert(name.to_owned(), path);
        }
    }
    Ok(found)
}

/// Companions in memory, for checkpoints that are written when the directory they come from may
/// be gone: all but `tokenizer.json` and `tokenizer_config.json`, which the tokenizer writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Companions(BTreeMap<String, Vec<u8>>);

impl Companions {
    /// Reads those in `directory`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut files = companions(directory)?;
        files.retain(|name, _| !TOKENIZER.contains(&name.as_str()));
        let contents = files.into_iter().map(|(name, path)| {
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            Ok((name, bytes))
        });
        contents.collect::<Result<_>>().map(Self)
    }

    /// Without the chat templates.
    pub fn without_templates(mut self) -> Self {
        self.0
            .retain(|name, _| !name.ends_with(".jinja") && name != "chat_template.json");
        self
    }

    /// The settings of generation, which are the model's.
    pub fn of_model(mut self) -> Self {
        self.0.retain(|name, _| name == GENERATION_CONFIG);
        self
    }

    /// All but the settings of generation: what goes with a tokenizer.
    pub fn of_tokenizer(mut self) -> Self {
        self.0.remove(GENERATION_CONFIG);
        self
    }

    /// With those of `other` that are missing here.
    pub fn or(self, other: Self) -> Self {
        let mut files = other.0;
        files.extend(self.0);
        Self(files)
    }

    /// Writes them into the existing `directory`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        for (name, bytes) in &self.0 {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(Error::io(&path))?;
        }
        Ok(())
    }
}
