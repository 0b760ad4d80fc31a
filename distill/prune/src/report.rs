//! What pruning says of itself.

use retort_format::ModelConfig;
use serde::Serialize;

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Channels within the feed-forward block.
    pub mlp: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Parameters, each counted once.
    pub parameters: u64,
    /// Without the embedding and the head.
    pub parameters_without_embeddings: u64,
}

impl Shape {
    pub(super) fn of(config: &ModelConfig) -> Self {
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

/// Both shapes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Before.
    pub parent: Shape,
    /// After.
    pub student: Shape,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Both shapes.
    #[serde(flatten)]
    pub plan: Plan,
    /// The layers kept.
    pub layers: Vec<usize>,
    /// How far the residual stream moves over each layer (1 − cos), or from each layer on over
    /// as many as went (angle / π), where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Vec<f64>>,
    /// Tokens of text that influence or activations were measured on.
    pub calibration_tokens: usize,
    /// The share of the tokens counted that were kept ones, where the vocabulary was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary_covers: Option<f64>,
}
