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
    /// A group of parameters that cannot be formed.
    #[error("recipe: train.groups[{index}]: {reason}")]
    Group {
        /// Which one, from 0.
        index: usize,
        /// What is wrong and what there is.
        reason: String,
    },
    /// An unknown device, or one whose back end is not in this build.
    #[error("device \"{name}\" is not in this build (available: {})", crate::DEVICES.join(", "))]
    Device {
        /// What was asked for.
        name: String,
    },
    /// The device has no arithmetic of the recipe's precision.
    #[error(
        "train.precision: this device does not compute in {precision}; use float32, or another --device"
    )]
    Precision {
        /// What the recipe asks for.
        precision: &'static str,
    },
    /// The weights could not be asked the tasks of the recipe.
    #[error("[tasks]: {0}")]
    Tasks(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too many batches in a row were passed over.
    #[error(
        "{in_a_row} batches in a row were passed over, the last at step {step} (loss {loss}, norm of the \
         gradients {grad_norm}): start another run with a lower train.lr or train.grad_clip, from the last \
         good checkpoint with [model] from if there is one"
    )]
    Diverged {
        /// So many.
        in_a_row: u64,
        /// The last one's step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The norm of its gradients.
        grad_norm: f64,
    },
    /// A checkpoint could not be written; those before it are whole.
    #[error(
        "{path}: the checkpoint could not be written: {source}: make room or mend the directory, then go on with \
         --resume from {}", from(.last)
    )]
    Checkpoint {
        /// Where it was to be.
        path: PathBuf,
        /// The newest one that is complete.
        last: Option<PathBuf>,
        /// What failed.
        source: Box<Error>,
    },
    /// The ranks of the run cannot train together.
    #[error(transparent)]
    Comm(#[from] retort_comm::Error),
    /// What a run minimises could not be computed.
    #[error(transparent)]
    Objective(Box<dyn std::error::Error + Send + Sync>),
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] retort_format::Error),
    /// From a tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] retort_tokenizer::Error),
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

    /// An [`Error::Objective`] for `error`.
    pub fn objective(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Objective(Box::new(error))
    }

    /// An [`Error::Invalid`] about `path`.
    pub fn invalid(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn from(last: &Option<PathBuf>) -> String {
    match last {
        Some(path) => path.display().to_string(),
        None => "the start: there is none yet".into(),
    }
}
