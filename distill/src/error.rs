//! Errors of distillation.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of `[teacher]`, of the model it names and of its cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe has no `[teacher]`.
    #[error(
        "the recipe has no [teacher]: add one with path = \"DIRECTORY\", or run `retort train`"
    )]
    NoTeacher,
    /// A key of `[teacher]` is unknown, missing or out of range.
    #[error("teacher.{0}")]
    Config(String),
    /// The teacher's tokenizer gives other ids than the student's.
    #[error(
        "{teacher}: the teacher's tokenizer is not the student's (id {id} is {theirs} there and \
         {ours} here): set data.tokenizer to the teacher's directory"
    )]
    Vocabulary {
        /// The teacher's directory or file.
        teacher: PathBuf,
        /// The first id that differs.
        id: u32,
        /// The teacher's token.
        theirs: String,
        /// The student's token.
        ours: String,
    },
    /// Rows longer than the teacher can take.
    #[error("data.seq_len: {rows} is more than the teacher's context of {trained}: shorten it")]
    Context {
        /// Positions in a row.
        rows: usize,
        /// The teacher's context.
        trained: usize,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A cache is damaged, or was not written for the recipe.
    #[error("{path}: {reason}")]
    Cache {
        /// Its directory or a file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A recipe that cannot be read.
    #[error(transparent)]
    Train(#[from] retort_train::Error),
    /// A model that cannot be read or run.
    #[error(transparent)]
    Model(#[from] retort_format::Error),
    /// Text or a tokenizer that cannot be read.
    #[error(transparent)]
    Data(#[from] retort_data::Error),
    /// From a tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] retort_tokenizer::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn cache(path: &Path, reason: impl Into<String>) -> Self {
        Self::Cache {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
