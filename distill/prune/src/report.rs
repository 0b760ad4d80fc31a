//! The figures of a pruning, as `retort prune --json` prints them.

use retort_format::ModelConfig;
use serde::Serialize;

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelShape {
    /// Layers.
    pub layers: usize,
    /// Channels of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of the feed-forward block.
    pub mlp: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Parameters; those of a tied head count once.
    pub parameters: u64,
    /// Parameters without the embedding and the head.
    pub parameters_without_embeddings: u64,
}

impl ModelShape {
    fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            mlp: config.inner_size(),
            vocabulary: config.vocab_size,
            parameters: config.parameters(),
            parameters_without_embeddings: config.parameters_without_embeddings(),
        }
    }
}

/// The shapes of parent and student.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrunePlan {
    /// The parent's.
    pub parent: ModelShape,
    /// The student's.
    pub student: ModelShape,
}

impl PrunePlan {
    pub(crate) fn new(parent: &ModelConfig, student: &ModelConfig) -> Self {
        Self {
            parent: ModelShape::of(parent),
            student: ModelShape::of(student),
        }
    }
}

/// The outcome of a pruning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PruneReport {
    /// The shapes of parent and student.
    #[serde(flatten)]
    pub plan: PrunePlan,
    /// The layers kept, from 0, ascending.
    pub layers: Vec<usize>,
    /// The distances that layers were selected by, where these were measured: 1 − cos over each
    /// layer, or the angle / π from each layer on over as many layers as were removed.
    #[serde(rename = "moved", skip_serializing_if = "Option::is_none")]
    pub layer_distances: Option<Vec<f64>>,
    /// Tokens of the text that layers, channels or heads were scored on.
    pub calibration_tokens: usize,
    /// The share of the counted tokens that are in the smaller vocabulary, if there is one.
    #[serde(rename = "vocabulary_covers", skip_serializing_if = "Option::is_none")]
    pub vocabulary_coverage: Option<f64>,
}
