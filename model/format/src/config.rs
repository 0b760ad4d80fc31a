//! A decoder's shape, under the names that Hugging Face's `config.json` gives it.
//!
//! In: a recipe's `[model]` table (unknown keys are errors) or a `config.json` (read and
//! written by `config_json.rs`). Out: a validated [`ModelConfig`] and its exact number of
//! parameters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::param_key::LayerLinear;
use crate::rope::RopeScaling;

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

/// Limits of what this crate opens. Together they keep every product of sizes within
/// `u64`: 2²⁴ · 2²⁴ weights in each of seven matrices of 2¹² layers.
const MAX_DIMENSION: usize = 1 << 24;
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 12;

impl ModelConfig {
    /// Fills the zero fields from the others and checks that everything fits together.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not.
    pub fn resolve(mut self) -> Result<Self> {
        let bad = |field, reason: &str| {
            Err(Error::Config {
                field,
                reason: reason.into(),
            })
        };
        for (field, value, most) in [
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("hidden_size", self.hidden_size, MAX_DIMENSION),
            ("intermediate_size", self.intermediate_size, MAX_DIMENSION),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_DIMENSION,
            ),
        ] {
            if value == 0 || value > most {
                return bad(field, &format!("must be between 1 and {most}"));
            }
        }
        if self.num_key_value_heads == 0 {
            self.num_key_value_heads = self.num_attention_heads;
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return bad("num_key_value_heads", "must divide num_attention_heads");
        }
        if self.head_dim == 0 {
            if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
                return bad(
                    "hidden_size",
                    "must be a multiple of num_attention_heads, or head_dim must be given",
                );
            }
            self.head_dim = self.hidden_size / self.num_attention_heads;
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad("head_dim", "must be even, for the rotary embedding");
        }
        if self.head_dim > MAX_DIMENSION / self.num_attention_heads {
            return bad("head_dim", "makes the heads together wider than 16777216");
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return bad("rms_norm_eps", "must be between 0 and 1");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 1.0) {
            return bad("rope_theta", "must be a number above 1");
        }
        if !(self.initializer_range.is_finite() && self.initializer_range > 0.0) {
            return bad("initializer_range", "must be above 0");
        }
        if let Some(Err(reason)) = self.rope_scaling.as_ref().map(RopeScaling::check) {
            return bad("rope_scaling", reason);
        }
        if self.model_type == Architecture::Qwen {
            if self.seq_length == 0 {
                self.seq_length = self.max_position_embeddings;
            }
            if self.seq_length < 2 || self.seq_length > MAX_DIMENSION {
                return bad("seq_length", "must be between 2 and 16777216");
            }
            if !self.intermediate_size.is_multiple_of(2) {
                return bad(
                    "intermediate_size",
                    "must be even: half of it is the inner width",
                );
            }
        }
        let foreign = self.model_type.family().foreign(&self);
        if let Some((field, _)) = foreign.into_iter().find(|(_, set)| *set) {
            let name = self.model_type.name();
            return bad(field, &format!("is not something a {name} model has"));
        }
        Ok(self)
    }

    /// Channels within the SwiGLU block: for the first Qwen half of `intermediate_size`.
    pub fn inner_size(&self) -> usize {
        self.model_type.family().inner_size(self)
    }

    /// The number of parameters, each counted once.
    pub fn parameters(&self) -> u64 {
        let table = self.vocab_size as u64 * self.hidden_size as u64;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        self.parameters_without_embeddings() + tables * table
    }

    /// The number of parameters without the embedding and the head.
    pub fn parameters_without_embeddings(&self) -> u64 {
        let (d, e) = (self.hidden_size as u64, self.head_dim as u64);
        let q = self.num_attention_heads as u64 * e;
        let kv = self.num_key_value_heads as u64 * e;
        let inner = self.inner_size() as u64;
        let mut block = 2 * d * (q + kv) + 3 * d * inner + 2 * d;
        if LayerLinear::Q.has_bias(self) {
            block += q + 2 * kv;
        }
        if LayerLinear::O.has_bias(self) {
            block += d;
        }
        if self.model_type.qk_norm() {
            block += 2 * e;
        }
        if self.mlp_bias {
            block += 2 * inner + d;
        }
        self.num_hidden_layers as u64 * block + d
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tiny() -> Value {
        json!({
            "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        })
    }

    fn resolve(change: Value) -> Result<ModelConfig> {
        let mut v = tiny();
        for (k, x) in change.as_object().unwrap() {
            v[k] = x.clone();
        }
        serde_json::from_value::<ModelConfig>(v).unwrap().resolve()
    }

    #[test]
    fn counts_parameters() {
        let c = resolve(json!({})).unwrap();
        // Per block: q and o 16x16, k and v 16x8, three 16x24, two norms of 16.
        let block = 2 * 256 + 2 * 128 + 3 * 384 + 32;
        assert_eq!(c.parameters_without_embeddings(), 2 * block + 16);
        assert_eq!(c.parameters(), 2 * block + 16 + 640);
    }

    /// Published counts of the models themselves.
    #[test]
    fn counts_the_parameters_of_models_that_people_have() {
        let count = |v: Value| {
            let c: ModelConfig = serde_json::from_value(v).unwrap();
            c.resolve().unwrap().parameters()
        };
        let smollm2 = json!({
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        });
        assert_eq!(count(smollm2), 134_515_008);
        let qwen = json!({
            "model_type": "qwen", "vocab_size": 151936, "hidden_size": 4096,
            "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
            "tie_word_embeddings": false,
        });
        assert_eq!(count(qwen), 7_721_324_544);
        let qwen2 = json!({
            "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
            "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2,
        });
        assert_eq!(count(qwen2), 494_032_768);
        let qwen3 = json!({
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024,
            "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128,
        });
        assert_eq!(count(qwen3), 596_049_920);
    }

    #[test]
    fn refuses_what_does_not_fit_and_names_the_field() {
        for (field, change) in [
            ("num_key_value_heads", json!({"num_key_value_heads": 3})),
            ("hidden_size", json!({"hidden_size": 18})),
            ("hidden_size", json!({"hidden_size": 0})),
            ("head_dim", json!({"head_dim": 3})),
            ("head_dim", json!({"head_dim": 1usize << 60})),
            ("num_hidden_layers", json!({"num_hidden_layers": 1 << 20})),
            ("rms_norm_eps", json!({"rms_norm_eps": 0.0})),
            ("rope_theta", json!({"rope_theta": -1.0})),
            ("seq_length", json!({"seq_length": 64})),
            (
                "rope_scaling",
                json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}),
            ),
            (
                "attention_bias",
                json!({"model_type": "qwen2", "attention_bias": true}),
            ),
            ("mlp_bias", json!({"model_type": "qwen3", "mlp_bias": true})),
            ("num_key_value_heads", json!({"model_type": "qwen"})),
        ] {
            let message = resolve(change).unwrap_err().to_string();
            assert!(message.starts_with(&format!("model.{field}:")), "{message}");
        }
    }

    #[test]
    fn the_first_qwens_own_names_are_understood() {
        let v = json!({
            "model_type": "qwen", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "kv_channels": 4,
            "layer_norm_epsilon": 1e-6, "rotary_emb_base": 20000.0, "seq_length": 32,
        });
        let c = serde_json::from_value::<ModelConfig>(v).unwrap();
        let c = c.resolve().unwrap();
        assert_eq!(
            (c.head_dim, c.rms_norm_eps, c.rope_theta),
            (4, 1e-6, 20000.0)
        );
    }
}
