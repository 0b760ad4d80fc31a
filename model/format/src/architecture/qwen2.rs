//! Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on q, k and v, and
//! only there. The smaller ones tie the head to the embedding.
//!
//! `config.json` as `transformers`' `Qwen2Config`; a sliding window is refused.

use serde_json::{Map, Value};

use super::{Architecture, Family, llama};
use crate::config::ModelConfig;
use crate::config_json::Fields;
use crate::error::Result;

/// See the module.
pub(crate) struct Qwen2;

impl Family for Qwen2 {
    fn class_name(&self) -> &'static str {
        "Qwen2ForCausalLM"
    }

    fn qkv_bias(&self) -> bool {
        true
    }

    fn foreign(&self, config: &ModelConfig) -> Vec<(&'static str, bool)> {
        let mut foreign = llama::qwen_only(config);
        foreign.push(("attention_bias", config.attention_bias));
        foreign.push(("mlp_bias", config.mlp_bias));
        foreign
    }

    fn read(&self, fields: &Fields<'_>) -> Result<ModelConfig> {
        fields.full_attention()?;
        llama::read(Architecture::Qwen2, fields)
    }

    fn write(&self, config: &ModelConfig) -> Map<String, Value> {
        let mut map = llama::write(config);
        // Not one of the class's own keys, so only written where it says something.
        if config.head_dim * config.num_attention_heads == config.hidden_size {
            map.shift_remove("head_dim");
        }
        map.insert("use_sliding_window".into(), false.into());
        map
    }
}
