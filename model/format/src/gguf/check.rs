//! Whether a GGUF file has the tensors of the model that its metadata describes.

use super::Gguf;
use crate::config::ModelConfig;
use crate::error::{self, Error, Result};

/// Refuses more layers than the file has tensors, before anything is made for each.
///
/// # Errors
///
/// [`Error::Metadata`].
pub fn check_layers(gguf: &Gguf, model: &ModelConfig) -> Result<()> {
    let (layers, tensors) = (model.num_hidden_layers, gguf.tensors().len());
    if layers <= tensors {
        return Ok(());
    }
    let key = format!("{}.block_count", model.model_type.name());
    let problem = format!("{layers} layers in a file of {tensors} tensors");
    Err(Error::metadata(gguf.path(), &key, problem))
}

/// What is wrong with tensor `name`, which should have these sizes, contiguous dimension first.
pub fn tensor_problem(gguf: &Gguf, name: &str, wanted: &[u64]) -> Option<String> {
    match gguf.tensor(name) {
        Ok(found) if found.dims == wanted => None,
        Ok(found) => Some(format!("{name} has shape {:?}, not {wanted:?}", found.dims)),
        Err(_) => Some(format!("{name} is missing")),
    }
}

/// The error of a file with these problems.
pub fn other_tensors(gguf: &Gguf, model: &ModelConfig, problems: &[String]) -> Error {
    let problem = format!(
        "the tensors are not those of the {} that its metadata describes: {}",
        model.model_type.name(),
        error::list(problems)
    );
    Error::unsupported(gguf.path(), problem)
}
