//! What can go wrong between a source and a batch: each message names the file, the place in it,
//! and what to do.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source names nothing that exists.
    #[error("{source_text}: no such file or directory; give a parquet file, a glob or a directory")]
    Missing {
        /// The source as given.
        source_text: String,
    },
    /// The source exists but holds no shard.
    #[error("{source_text}: no parquet file here; {remedy}")]
    NoShards {
        /// The source as given.
        source_text: String,
        /// What to give instead.
        remedy: String,
    },
    /// The source is of a kind that cannot be read.
    #[error("{source_text}: {reason}")]
    Source {
        /// The source as given.
        source_text: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The hub does not answer, refuses, or answers what cannot be used.
    #[error("{name}: {reason}")]
    Hub {
        /// The dataset or file, `hf://OWNER/NAME@REVISION/PATH`, or the variable at fault.
        name: String,
        /// What happened, and what to do.
        reason: String,
    },
    /// A file came from the hub with another content than the hub announced, twice.
    #[error(
        "{name}: expected {expected}, found {found}, twice; the file was removed: try again later, \
         and without HF_ENDPOINT or a proxy if there is one"
    )]
    Verification {
        /// The file, `hf://OWNER/NAME@REVISION/PATH`.
        name: String,
        /// The size or digest the hub's listing gives.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// No request may be made (`HF_HUB_OFFLINE`) and the cache does not hold what is needed.
    #[error("{name}: not in the cache, and HF_HUB_OFFLINE forbids to ask the hub; {remedy}")]
    NotCached {
        /// The dataset or file.
        name: String,
        /// What to do.
        remedy: String,
    },
    /// A file could not be opened, read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A shard is not readable parquet.
    #[error("{}: {place}: {cause}; the file is damaged, truncated or not parquet: fetch it again, leave it out, or skip what is damaged with data.on_damage = \"skip\"", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// "footer", or the row group and column.
        place: String,
        /// What the reader said.
        cause: String,
    },
    /// The `text` column of a shard is compressed in a way that is not read.
    #[error(
        "{}: column `text` is compressed with {codec}, which is not read ({read} are): write the file again with \
         one of these, with pyarrow for instance: pq.write_table(pq.read_table(old), new, compression=\"zstd\")",
        path.display()
    )]
    Codec {
        /// The shard.
        path: PathBuf,
        /// The codec, as parquet names it.
        codec: String,
        /// Those that are read.
        read: &'static str,
    },
    /// All that a source holds was passed over as damaged.
    #[error(
        "{source_name}: all that was to be read is damaged and was passed over; the first: {first}"
    )]
    NothingRead {
        /// The source's first shard.
        source_name: String,
        /// What was wrong first.
        first: Box<Error>,
    },
    /// A line of a JSON-lines shard is no document, or what follows cannot be read.
    #[error("{}: line {line}: {reason}; mend the file, or skip what is damaged with data.on_damage = \"skip\"", path.display())]
    JsonLine {
        /// The shard.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A shard has no `text` column.
    #[error("{}: no column `text`; it has {columns}: rename the one that holds the documents", path.display())]
    NoText {
        /// The shard.
        path: PathBuf,
        /// The columns it has, with their types.
        columns: String,
    },
    /// The `text` column does not hold strings.
    #[error("{}: column `text` is {kind}, not a string; the columns are {columns}", path.display())]
    TextType {
        /// The shard.
        path: PathBuf,
        /// The Arrow type found.
        kind: String,
        /// The columns, with their types.
        columns: String,
    },
    /// A tokenizer could not be read, trained or used.
    #[error(transparent)]
    Tokenizer(#[from] retort_tokenizer::Error),
    /// The thread that makes batches ahead has ended, after an error or a panic of its own.
    #[error("the data thread has ended; see above")]
    ThreadEnded,
    /// A field of the data configuration has an impossible value.
    #[error("data.{field}: {reason}")]
    Config {
        /// The field of `[data]`.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A source holds too little text for one row.
    #[error(
        "{source_name}: its training documents do not fill one row of {seq_len} + 1 ids; lower \
         data.seq_len or give more documents"
    )]
    TooSmall {
        /// The source's first shard.
        source_name: String,
        /// Inputs in a row.
        seq_len: usize,
    },
    /// A pretokenized directory cannot be used.
    #[error("{}: {reason}", path.display())]
    Pretokenized {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A cursor cannot be gone on from.
    #[error("the saved place in the data {reason}")]
    Cursor {
        /// Why not, and what to do.
        reason: String,
    },
}

impl Error {
    /// Whether a shard is damaged in a place that can be passed over.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Parquet { .. } | Self::JsonLine { .. })
    }

    pub(crate) fn source(source_text: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Source {
            source_text: source_text.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn hub(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Hub {
            name: name.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config {
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn pretokenized(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Pretokenized {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |cause| Self::Io {
            path: path.to_owned(),
            cause,
        }
    }
}
