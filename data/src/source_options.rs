//! Options of a source that its name does not hold.

use serde::{Deserialize, Serialize};

/// What is not in a source's name; local sources need none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceOptions {
    /// The split of a hub dataset whose name gives none.
    pub split: String,
    /// Bytes of fetched shards that one [`Shards`](crate::Shards) keeps in the cache; shards it has read make
    /// way for others. Without it every shard stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_budget_bytes: Option<u64>,
    /// Shards fetched ahead of the one that is read.
    pub prefetch: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            split: "train".into(),
            disk_budget_bytes: None,
            prefetch: 2,
        }
    }
}
