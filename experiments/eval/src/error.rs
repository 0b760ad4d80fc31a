//! What can go wrong between a run directory and a report.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No run was named.
    #[error("nothing to report on; name a run directory, or files of figures after --figures")]
    NoRuns,
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
    /// A line of `metrics.jsonl` is not a step or an evaluation.
    #[error("{}: line {line}: {reason}; every line but a torn last one must be a JSON object with step and tokens", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// A run has written nothing yet.
    #[error("{}: holds no step and no evaluation yet; let the run take a step first", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file of figures that a report cannot use.
    #[error("{}: {reason}", path.display())]
    Figures {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run's resolved recipe is no TOML.
    #[error("{}: {reason}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Figures that a challenge asks for are missing, or were taken another way.
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
        /// What the plotting library said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path, action: &'static str, cause: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            cause,
        }
    }
}
