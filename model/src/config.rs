//! A decoder's shape, under the names that Hugging Face's `config.json` gives it.
//!
//! In: a recipe's `[model]` table (unknown keys are errors) or a `config.json` (unknown
//! keys are other tools' business and ignored). Out: a validated [`ModelConfig`] and, for
//! a checkpoint, a `config.json` that `transformers` opens as `LlamaForCausalLM`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The shape of a Llama-style decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Rows of the embedding; at least the tokenizer's size. 0 in a recipe: the tokenizer's size.
    #[serde(default)]
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU block.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; 0 in a recipe: as many as query heads.
    #[serde(default)]
    pub num_key_value_heads: usize,
    /// Width of a head; 0 in a recipe: `hidden_size / num_attention_heads`.
    #[serde(default)]
    pub head_dim: usize,
    /// Longest sequence in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Base of the rotary embedding's frequencies.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding, transposed.
    #[serde(default = "default_tied")]
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// The id that ends a document; filled in from the tokenizer.
    #[serde(default)]
    pub eos_token_id: Option<u32>,
    /// The id that begins a document, if the tokenizer has one.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
}

fn default_positions() -> usize {
    2048
}
fn default_rope_theta() -> f64 {
    10_000.0
}
fn default_eps() -> f64 {
    1e-5
}
fn default_tied() -> bool {
    true
}
fn default_range() -> f64 {
    0.02
}

/// No dimension of a model this crate opens is larger: keeps every product within `usize`.
const MAX_DIMENSION: usize = 1 << 24;

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
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > MAX_DIMENSION {
                return bad(field, "must be between 1 and 16777216");
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
        if !self.head_dim.is_multiple_of(2) || self.head_dim > MAX_DIMENSION {
            return bad("head_dim", "must be even, for the rotary embedding");
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
        Ok(self)
    }

    /// The number of parameters: `(all, without the embedding and the head)`.
    pub fn parameters(&self) -> (usize, usize) {
        let attention = self.hidden_size
            * self.head_dim
            * (2 * self.num_attention_heads + 2 * self.num_key_value_heads);
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        let blocks = self.num_hidden_layers * (attention + mlp + 2 * self.hidden_size);
        let body = blocks + self.hidden_size;
        let table = self.vocab_size * self.hidden_size;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        (body + tables * table, body)
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a model of another kind; [`Error::Invalid`] for a
    /// field that is missing, of another type, or asks for something not supported.
    pub fn from_json_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|e| Error::invalid(path, format!("not valid JSON: {e}")))?;
        let kind = json["model_type"].as_str().unwrap_or("absent");
        if kind != "llama" {
            return Err(Error::Architecture {
                path: path.to_owned(),
                found: kind.to_owned(),
            });
        }
        for key in ["attention_bias", "mlp_bias"] {
            if json[key].as_bool() == Some(true) {
                return Err(Error::invalid(
                    path,
                    format!("{key} = true is not supported"),
                ));
            }
        }
        if let Some(act) = json["hidden_act"].as_str()
            && act != "silu"
        {
            return Err(Error::invalid(
                path,
                format!("hidden_act \"{act}\" is not supported (silu is)"),
            ));
        }
        // transformers 5 moved the rotary settings into `rope_parameters`.
        let rope = &json["rope_parameters"];
        let scaling = json["rope_scaling"]["rope_type"]
            .as_str()
            .or(json["rope_scaling"]["type"].as_str())
            .or(rope["rope_type"].as_str())
            .unwrap_or("default");
        if scaling != "default" {
            return Err(Error::invalid(
                path,
                format!("rope scaling \"{scaling}\" is not supported"),
            ));
        }
        let size = |key: &'static str| -> Result<usize> {
            json[key]
                .as_u64()
                .and_then(|v| usize::try_from(v).ok())
                .ok_or_else(|| {
                    Error::invalid(path, format!("field {key}: expected a positive integer"))
                })
        };
        let size_or = |key: &'static str, default: usize| match &json[key] {
            Value::Null => Ok(default),
            _ => size(key),
        };
        // The end-of-text id may be a list; the first is the one that separates documents.
        let id = |key: &str| {
            json[key]
                .as_u64()
                .or(json[key][0].as_u64())
                .and_then(|v| u32::try_from(v).ok())
        };
        Self {
            vocab_size: size("vocab_size")?,
            hidden_size: size("hidden_size")?,
            intermediate_size: size("intermediate_size")?,
            num_hidden_layers: size("num_hidden_layers")?,
            num_attention_heads: size("num_attention_heads")?,
            num_key_value_heads: size_or("num_key_value_heads", 0)?,
            head_dim: size_or("head_dim", 0)?,
            max_position_embeddings: size_or("max_position_embeddings", default_positions())?,
            rope_theta: json["rope_theta"]
                .as_f64()
                .or(rope["rope_theta"].as_f64())
                .unwrap_or(default_rope_theta()),
            rms_norm_eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6),
            tie_word_embeddings: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            initializer_range: json["initializer_range"]
                .as_f64()
                .unwrap_or(default_range()),
            eos_token_id: id("eos_token_id"),
            bos_token_id: id("bos_token_id"),
        }
        .resolve()
        .map_err(|e| Error::invalid(path, e))
    }

    /// The content of a `config.json` for `transformers`.
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            "eos_token_id": self.eos_token_id,
            "bos_token_id": self.bos_token_id,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "torch_dtype": "float32",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn tiny() -> ModelConfig {
        serde_json::from_value(json!({
            "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        }))
        .unwrap()
    }

    #[test]
    fn counts_parameters() {
        let c = tiny().resolve().unwrap();
        // Per block: q and o 16x16, k and v 16x8, three 16x24, two norms of 16.
        let block = 2 * 256 + 2 * 128 + 3 * 384 + 32;
        assert_eq!(c.parameters(), (2 * block + 16 + 640, 2 * block + 16));
    }

    #[test]
    fn refuses_what_does_not_fit_and_names_the_field() {
        for (field, change) in [
            ("num_key_value_heads", json!({"num_key_value_heads": 3})),
            ("hidden_size", json!({"hidden_size": 18})),
            ("hidden_size", json!({"hidden_size": 0})),
            ("head_dim", json!({"head_dim": 3})),
            ("rms_norm_eps", json!({"rms_norm_eps": 0.0})),
            ("rope_theta", json!({"rope_theta": -1.0})),
        ] {
            let mut v = serde_json::to_value(tiny()).unwrap();
            for (k, x) in change.as_object().unwrap() {
                v[k] = x.clone();
            }
            let c: ModelConfig = serde_json::from_value(v).unwrap();
            let message = c.resolve().unwrap_err().to_string();
            assert!(message.starts_with(&format!("model.{field}:")), "{message}");
        }
    }

    #[test]
    fn config_json_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let c = tiny().resolve().unwrap();
        std::fs::write(&path, c.to_json().to_string()).unwrap();
        assert_eq!(ModelConfig::from_json_file(&path).unwrap(), c);
    }

    #[test]
    fn refuses_another_architecture() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"model_type": "mamba"}"#).unwrap();
        let message = ModelConfig::from_json_file(&path).unwrap_err().to_string();
        assert!(
            message.contains("mamba") && message.contains("llama"),
            "{message}"
        );
    }
}
