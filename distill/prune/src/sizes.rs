//! The sizes of a model that pruning changes.

use retort_format::ModelConfig;

/// The sizes of a model that pruning changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub layers: usize,
    /// Channels of the residual stream.
    pub hidden: usize,
    pub kv_heads: usize,
    /// Channels of the feed-forward block.
    pub mlp: usize,
}

/// The sizes that are given; those that are not are searched.
pub(crate) struct FixedSizes {
    pub layers: Option<usize>,
    pub hidden: Option<usize>,
    pub kv_heads: Option<usize>,
    pub mlp: Option<usize>,
}

impl Sizes {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            hidden: config.hidden_size,
            kv_heads: config.num_key_value_heads,
            mlp: config.inner_size(),
        }
    }

    /// `base` with these sizes; the number of query heads for a key/value head stays.
    pub(crate) fn applied_to(self, base: &ModelConfig) -> ModelConfig {
        let group = base.num_attention_heads / base.num_key_value_heads;
        let mut config = base.clone();
        config.num_hidden_layers = self.layers;
        config.hidden_size = self.hidden;
        config.num_key_value_heads = self.kv_heads;
        config.num_attention_heads = self.kv_heads * group;
        config.intermediate_size = self.mlp * (base.intermediate_size / base.inner_size());
        // The mean is over fewer channels, see `slicing.rs`.
        config.rms_norm_eps *= base.hidden_size as f64 / self.hidden as f64;
        config
    }
}
