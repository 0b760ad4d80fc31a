//! Keys and values of what a model has already read, so that the next token costs one
//! position and not the whole sequence.

use retort_format::ModelConfig;
use retort_format::rope::ntk_alpha;
use retort_ops::KvCache;

/// The keys and values of every layer for a growing sequence.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<KvCache>,
    pub(crate) length: usize,
}

impl Cache {
    /// Positions held.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether `more` positions can follow what is held and mean the same as when all were
    /// read at once. Not so where the first Qwen's rotary base changes with the sequence's
    /// length: then start again with an empty cache and the whole sequence.
    pub fn fits(&self, config: &ModelConfig, more: usize) -> bool {
        let alpha = |length| ntk_alpha(length, config.seq_length);
        self.is_empty()
            || !config.use_dynamic_ntk
            || alpha(self.length) == alpha(self.length + more)
    }
}
