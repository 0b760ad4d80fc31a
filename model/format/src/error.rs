//! What can go wrong with a model on disk or in use; each error names the file or the field and the remedy.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about a model. The message is one line, fit to be shown to a user as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read, map or write a file.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// A file is there, but its content is not what it should be: damaged, cut short, or of another version.
    #[error("{path}: {problem}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A metadata key is missing or holds another type than the one needed.
    #[error("{path}: metadata key {key}: {problem}", path = path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key as it stands, or should stand, in the file.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing, or has a shape or a type that does not fit its place.
    #[error("{path}: tensor {name}: {problem}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model is well formed but of a kind that is not supported.
    #[error("{path}: {problem}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported and what is.
        problem: String,
    },
    /// The tokenizer inside the file cannot be built, or a text cannot be tokenized.
    #[error("{path}: tokenizer: {problem}", path = path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Tensors of a checkpoint do not match its configuration.
    #[error("{path}: the tensors do not match config.json: {}", list(.problems), path = path.display())]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// Every missing, extra or misshapen tensor.
        problems: Vec<String>,
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
    /// Sizes handed to a function do not fit each other.
    #[error("{what}: {problem}")]
    Shape {
        /// The operation.
        what: &'static str,
        /// The sizes, and what they should be.
        problem: String,
    },
    /// The kernels asked for do not exist or cannot run on this processor.
    #[error("{0}")]
    Kernels(String),
    /// An argument is outside its range.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    /// For `map_err` of an operation on the file at `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// A damaged or unreadable file.
    pub fn format(path: &Path, problem: impl std::fmt::Display) -> Self {
        Error::Format {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// A missing or ill-typed metadata key.
    pub fn metadata(path: &Path, key: &str, problem: impl std::fmt::Display) -> Self {
        Error::Metadata {
            path: path.to_owned(),
            key: key.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// A missing or ill-shaped tensor.
    pub fn tensor(path: &Path, name: &str, problem: impl std::fmt::Display) -> Self {
        Error::Tensor {
            path: path.to_owned(),
            name: name.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// A well-formed file of an unsupported kind.
    pub fn unsupported(path: &Path, problem: impl std::fmt::Display) -> Self {
        Error::Unsupported {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// A tokenizer that cannot be built or used.
    pub fn tokenizer(path: &Path, problem: impl std::fmt::Display) -> Self {
        Error::Tokenizer {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// Sizes that do not fit each other.
    pub fn shape(what: &'static str, problem: impl std::fmt::Display) -> Self {
        Error::Shape {
            what,
            problem: problem.to_string(),
        }
    }
}

/// Several problems in one line: the first few, and how many more there are.
pub fn list(problems: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut line = problems[..problems.len().min(SHOWN)].join("; ");
    if problems.len() > SHOWN {
        line += &format!("; and {} more", problems.len() - SHOWN);
    }
    line
}
