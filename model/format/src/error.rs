//! What can go wrong in the edge engine, each error saying which file and field it is about and what to do.

use std::path::{Path, PathBuf};

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine. The message is one line, fit to be shown to a user as it is.
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
    /// The file is not a GGUF file that this program can read: damaged, cut short, or of another version.
    #[error("{path}: {problem}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Field, offset and remedy.
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
    /// The model is well formed but of a kind that this engine does not run.
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
    /// Wraps a system error with the file it is about.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// A damaged or unreadable file.
    pub fn format(path: &Path, problem: impl Into<String>) -> Self {
        Error::Format {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// A missing or ill-typed metadata key.
    pub fn metadata(path: &Path, key: &str, problem: impl Into<String>) -> Self {
        Error::Metadata {
            path: path.to_owned(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    /// A missing or ill-shaped tensor.
    pub fn tensor(path: &Path, name: &str, problem: impl Into<String>) -> Self {
        Error::Tensor {
            path: path.to_owned(),
            name: name.to_owned(),
            problem: problem.into(),
        }
    }

    /// A well-formed file of an unsupported kind.
    pub fn unsupported(path: &Path, problem: impl Into<String>) -> Self {
        Error::Unsupported {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// A tokenizer that cannot be built or used.
    pub fn tokenizer(path: &Path, problem: impl Into<String>) -> Self {
        Error::Tokenizer {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Sizes that do not fit each other.
    pub fn shape(what: &'static str, problem: impl Into<String>) -> Self {
        Error::Shape {
            what,
            problem: problem.into(),
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
