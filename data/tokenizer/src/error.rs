//! What can go wrong between a tokenizer's file and ids: each message names the file and what to do.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A file is not a tokenizer, or not one that can be used.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A tokenizer could not be trained as asked.
    #[error("tokenizer training: {0}")]
    Training(String),
    /// A text could not be encoded, or ids could not be decoded.
    #[error("tokenization: {0}")]
    Encoding(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |cause| Self::Io {
            path: path.to_owned(),
            cause,
        }
    }

    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
