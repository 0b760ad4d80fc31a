//! How an imported directory is written.

use retort_format::GgmlType;
use retort_format::checkpoint::MAX_SHARD_BYTES;

/// How a directory is written.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportSettings {
    /// F32, F16 or BF16 for all tensors; `None` keeps these three as they are and makes F32 of
    /// all others, so that nothing is lost.
    pub dtype: Option<GgmlType>,
    /// Weights are cut into files of at most so many bytes (a larger tensor has a file of its own).
    pub max_shard_bytes: u64,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            dtype: None,
            max_shard_bytes: MAX_SHARD_BYTES,
        }
    }
}
