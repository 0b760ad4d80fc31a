//! The files that a run's checkpoints carry beside weights and tokenizer: the chat template, the
//! settings of generation, other forms of the vocabulary.

use std::path::Path;

use retort_format::checkpoint::Companions;
use retort_tokenizer::Tokenizer;

use crate::error::{Error, Result};
use crate::recipe::{ModelSection, Recipe};

/// The companions of a run of `recipe`: those of its tokenizer, then those of the model that it
/// starts from, then those of `checkpoint`, which is one of the run's, where the others are gone.
///
/// A model whose tokenizer is not the run's gives its settings of generation alone; a tokenizer of
/// another directory that has a template keeps it.
///
/// # Errors
/// A file cannot be read.
pub(super) fn companions(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    checkpoint: Option<&Path>,
) -> Result<Companions> {
    let given = &recipe.data.tokenizer;
    let beside = match given.parent() {
        // A file in the current directory has an empty one.
        Some(parent) if given.is_file() => Path::new(".").join(parent),
        _ => given.clone(),
    };
    let beside = Some(beside).filter(|directory| directory.is_dir());
    let mut found = match &beside {
        Some(directory) => Companions::read(directory)?.of_tokenizer(),
        None => Companions::default(),
    };
    if let ModelSection::From(section) = &recipe.model
        && section.from.is_dir()
    {
        let from = Companions::read(&section.from)?;
        let real = |path: &Path| path.canonicalize().ok();
        let one = beside
            .as_deref()
            .is_some_and(|directory| real(directory) == real(&section.from));
        let has_template = !tokenizer.config()["chat_template"].is_null();
        found = found.or(if one {
            from
        } else if !has_this_tokenizer(&section.from, tokenizer)? {
            from.of_model()
        } else if has_template {
            from.without_templates()
        } else {
            from
        });
    }
    match checkpoint {
        Some(checkpoint) => Ok(found.or(Companions::read(checkpoint)?)),
        None => Ok(found),
    }
}

/// Whether the model in `directory` has `tokenizer`, or none of its own.
fn has_this_tokenizer(directory: &Path, tokenizer: &Tokenizer) -> Result<bool> {
    let path = directory.join("tokenizer.json");
    if !path.exists() {
        return Ok(true);
    }
    let json = std::fs::read(&path).map_err(Error::io(&path))?;
    Ok(json == tokenizer.json())
}
