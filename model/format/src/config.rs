//! A decoder's shape, under the names that Hugging Face's `config.json` gives it.
//!
//! In: a recipe's `[model]` table (unknown keys are errors) or a `config.json` (read and
//! written by `config_json.rs`). Out: a [`ModelConfig`], which `resolve.rs` completes and checks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::architecture::kind::Architecture;
use crate::rope_scaling::RopeScaling;

/// The shape of a decoder.
///
/// The first Qwen's own names (`kv_channels`, `layer_norm_epsilon`, `rotary_emb_base`) are
/// accepted for the fields they mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The architecture; Llama where a recipe does not say.
    #[serde(default)]
    pub model_type: Architecture,
    /// Rows of the embedding; at least the tokenizer's size. 0 in a recipe: the tokenizer's size.
    #[serde(default)]
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU block; for the first Qwen twice that.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; 0 in a recipe: as many as query heads.
    #[serde(default)]
    pub num_key_value_heads: usize,
    /// Width of a head; 0 in a recipe: `hidden_size / num_attention_heads`.
    #[serde(default, alias = "kv_channels")]
    pub head_dim: usize,
    /// Longest sequence in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Base of the rotary embedding's frequencies.
    #[serde(default = "default_rope_theta", alias = "rotary_emb_base")]
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_eps", alias = "layer_norm_epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding, transposed.
    #[serde(default = "default_tied")]
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// The id that ends a document; filled in from the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<u32>,
    /// The id that begins a document, if the tokenizer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Biases on the attention's four projections (Llama, Qwen3).
    #[serde(default, skip_serializing_if = "is_false")]
    pub attention_bias: bool,
    /// Biases on the SwiGLU block's three projections (Llama).
    #[serde(default, skip_serializing_if = "is_false")]
    pub mlp_bias: bool,
    /// The length the first Qwen was trained on; 0 in its recipe: `max_position_embeddings`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq_length: usize,
    /// Whether the rotary base grows past `seq_length` (the first Qwen).
    #[serde(default, skip_serializing_if = "is_false")]
    pub use_dynamic_ntk: bool,
    /// Whether queries grow past `seq_length` (the first Qwen).
    #[serde(default, skip_serializing_if = "is_false")]
    pub use_logn_attn: bool,
    /// How the rotary frequencies were stretched for longer sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// The `config.json` it was read from: keys that mean nothing here are written back.
    #[serde(skip)]
    pub source: ConfigSource,
}

/// The keys of a `config.json` that was read; none for a config made otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigSource(pub(crate) Option<Arc<Map<String, Value>>>);

fn is_false(flag: &bool) -> bool {
    !flag
}
fn is_zero(n: &usize) -> bool {
    *n == 0
}
pub(crate) fn default_positions() -> usize {
    2048
}
pub(crate) fn default_rope_theta() -> f64 {
    10_000.0
}
fn default_eps() -> f64 {
    1e-5
}
fn default_tied() -> bool {
    true
}
pub(crate) fn default_range() -> f64 {
    0.02
}
