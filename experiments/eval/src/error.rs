//! The errors of this crate: each names the file, the field and the remedy.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of reading tasks, evaluating models, and reporting on runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--tasks` names a task that does not exist.
    #[error(
        "there is no task {name:?}; built in are {known}, and a path to a task's .toml is taken too"
    )]
    UnknownTask {
        /// The name that was given.
        name: String,
        /// The built-in tasks.
        known: String,
    },
    /// A task file has a wrong field.
    #[error("{task}: {field}: {reason}")]
    Task {
        /// The file, or the built-in task's name.
        task: String,
        /// The field.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// None of a task's data files exists.
    #[error(
        "task {task}: no file in {dirs} matches {patterns}; put one of them there or name its directory with --data"
    )]
    NoData {
        /// The task.
        task: String,
        /// The directories that were searched.
        dirs: String,
        /// The patterns that were searched for.
        patterns: String,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {action}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The action that failed, as in "read it".
        action: &'static str,
        /// The system's error.
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
        /// The row of the data, from 0.
        index: usize,
        /// The field of the task file.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A text and this model do not go together.
    #[error("{0}")]
    Model(String),
    /// The engine's error.
    #[error(transparent)]
    Engine(#[from] retort_engine::Error),
    /// The error of a checkpoint's tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] retort_tokenizer::Error),
    /// A report was asked for of no run and no results.
    #[error("nothing to report on; name a run directory, or files of figures after --figures")]
    NoRuns,
    /// A line of `metrics.jsonl` is not a step or an evaluation.
    #[error("{}: line {line}: {reason}; every line but a torn last one must be a JSON object with step and tokens", path.display())]
    MetricsLine {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// A run has written nothing yet.
    #[error("{}: holds no step and no evaluation yet; let the run take a step first", path.display())]
    EmptyRun {
        /// The file.
        path: PathBuf,
    },
    /// A results file, or a run's resolved recipe, cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Results that a challenge asks for are missing, or were measured with other settings.
    #[error("{model}: {reason}")]
    Challenge {
        /// The model.
        model: String,
        /// What is missing, and the command that gives it.
        reason: String,
    },
    /// A plot could not be drawn.
    #[error("plot {name}: {reason}")]
    Plot {
        /// The plot's file name.
        name: &'static str,
        /// The plotting library's message.
        reason: String,
    },
    /// The report page or a table could not be written as text.
    #[error("the report: {0}")]
    Page(String),
}

impl Error {
    /// An [`Error::Challenge`] about the results at `model`.
    pub(crate) fn challenge(model: &str, reason: impl Into<String>) -> Self {
        Self::Challenge {
            model: model.to_owned(),
            reason: reason.into(),
        }
    }

    /// Makes [`Error::Io`] of a system's error; `action` is as in "read it".
    pub(crate) fn io<'p>(
        path: &'p Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self + 'p {
        move |cause| Self::Io {
            path: path.to_owned(),
            action,
            cause,
        }
    }
}
