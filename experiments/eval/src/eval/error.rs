//! What can go wrong between a task file and its figures.

use std::path::{Path, PathBuf};

/// A result of an evaluation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything an evaluation reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--tasks` names what there is not.
    #[error(
        "there is no task {name:?}; built in are {known}, and a path to a task's .toml is taken too"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A task file cannot be what it should be.
    #[error("{task}: {field}: {reason}")]
    Task {
        /// The file or the built-in task's name.
        task: String,
        /// The field.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// None of a task's files is there.
    #[error(
        "task {task}: no file in {dirs} matches {patterns}; put one of them there or name its directory with --data"
    )]
    NoData {
        /// The task.
        task: String,
        /// Where was looked.
        dirs: String,
        /// What for.
        patterns: String,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {action}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as in "read it".
        action: &'static str,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A data file is not of its format.
    #[error("{}: {place}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Line or row.
        place: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A row does not give what the task asks of it.
    #[error("task {task}: item {index}: {field}: {reason}")]
    Item {
        /// The task.
        task: String,
        /// Which row of the data, from 0.
        index: usize,
        /// The field of the task file.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A text and this model do not go together.
    #[error("{0}")]
    Model(String),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] retort_format::Error),
    /// A checkpoint's tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] retort_tokenizer::Error),
}

impl Error {
    pub(super) fn io(path: &Path, action: &'static str, cause: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            cause,
        }
    }
}
