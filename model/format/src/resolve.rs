//! A configuration completed and checked: sizes that fit each other, nothing that its architecture has not.

use crate::architecture::kind::Architecture;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::rope_scaling::RopeScaling;

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
        let foreign = (self.model_type.family().foreign)(&self);
        if let Some((field, _)) = foreign.into_iter().find(|(_, set)| *set) {
            let name = self.model_type.name();
            return bad(field, &format!("is not something a {name} model has"));
        }
        Ok(self)
    }

    /// Channels within the SwiGLU block: for the first Qwen half of `intermediate_size`.
    pub fn inner_size(&self) -> usize {
        self.intermediate_size
            / if self.model_type.family().two_branches {
                2
            } else {
                1
            }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
