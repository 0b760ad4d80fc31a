//! What can go wrong with a recipe or a run.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of recipes, run directories and checkpoints.
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
    /// A file or a field of the recipe is not what it should be.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A `--set` that is not `table.key=value`.
    #[error("--set {argument}: {reason}")]
    Set {
        /// The argument as given.
        argument: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An unknown device, or one whose back end is not in this build.
    #[error("device \"{name}\" is not in this build (available: {})", crate::DEVICES.join(", "))]
    Device {
        /// What was asked for.
        name: String,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} at step {step}: lower train.lr or train.grad_clip and resume")]
    Diverged {
        /// The step.
        step: u64,
        /// NaN or an infinity.
        loss: f32,
    },
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] retort_model::Error),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] retort_data::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// An [`Error::Invalid`] about `path`.
    pub fn invalid(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
