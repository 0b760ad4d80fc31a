//! Errors of ranks that train together.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of the process group and of what is exchanged over it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ranks cannot be reached, or do not do the same thing.
    #[error("ranks: {0}")]
    Ranks(String),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
