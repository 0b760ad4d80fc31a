//! Errors of pruning.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of pruning; each names the option or the file, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option asks for what the parent cannot give.
    #[error("--{option}: {reason}")]
    Option {
        /// The option, as `retort prune` has it.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The tokenizer cannot be cut.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The `tokenizer.json`, or a file beside it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The directory to write is not empty.
    #[error("{path}: already exists and is not empty; name another directory with --out")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The stop flag was set.
    #[error("stopped; nothing was written")]
    Stopped,
    /// A model that cannot be read or run.
    #[error(transparent)]
    Model(#[from] retort_format::Error),
    /// A tokenizer that cannot be read or cut.
    #[error(transparent)]
    Vocabulary(#[from] retort_tokenizer::Error),
    /// Text that cannot be read.
    #[error(transparent)]
    Data(#[from] retort_data::Error),
}

impl Error {
    pub(crate) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option {
            option,
            reason: reason.into(),
        }
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl Into<String>) -> Self {
        Self::Tokenizer {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
