//! Loads a teacher by what its path is.

use std::path::Path;

use burn::tensor::Device;
use retort_tokenizer::Tokenizer;

use super::{BurnTeacher, EngineTeacher, Teacher};
use crate::error::Result;

/// Loads the model at `path` for a student with `tokenizer`: a `.gguf` file into the edge engine,
/// a Hugging Face directory into Burn on `device`.
///
/// # Errors
/// Anything wrong with the model; [`Error::Vocabulary`](crate::Error::Vocabulary) with the first
/// id whose token is not the student's.
pub fn load_teacher(
    path: &Path,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<Box<dyn Teacher>> {
    Ok(if path.extension().is_some_and(|e| e == "gguf") {
        Box::new(EngineTeacher::load(path, tokenizer)?)
    } else {
        Box::new(BurnTeacher::load(path, tokenizer, device)?)
    })
}
