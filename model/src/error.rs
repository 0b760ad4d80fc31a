//! What can go wrong with a model on disk or in a recipe.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of configurations and checkpoints; each names the file or field and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is there, but its content is not what it should be.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The model is of an architecture this crate does not have.
    #[error(
        "{path}: model_type \"{found}\" is not supported (llama, qwen, qwen2 and qwen3 are); \
         convert the checkpoint or choose one of these, such as SmolLM2"
    )]
    Architecture {
        /// The `config.json`.
        path: PathBuf,
        /// The `model_type` in it.
        found: String,
    },
    /// A configuration's numbers do not fit together.
    #[error("model.{field}: {reason}")]
    Config {
        /// The field, by its Hugging Face name.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Adapters that cannot be.
    #[error("lora.{field}: {reason}")]
    Lora {
        /// The field of `[lora]`.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Tensors of a checkpoint do not match its configuration.
    #[error("{path}: the tensors do not match config.json: {}", .problems.join("; "))]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// Every missing, extra or misshapen tensor.
        problems: Vec<String>,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn invalid(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
