//! Qwen3 (arXiv 2505.09388), the dense ones: Llama where each head of q and k goes through
//! an RMSNorm over its `head_dim` before it is rotated by its position. The width of a head
//! is a key of its own and the heads together need not be as wide as the model.
//!
//! `config.json` as `transformers`' `Qwen3Config`; a sliding window is refused.

use serde_json::{Map, Value};

use super::{Architecture, Family, llama};
use crate::config::ModelConfig;
use crate::config_json::Fields;
use crate::error::Result;

/// See the module.
pub(crate) struct Qwen3;

impl Family for Qwen3 {
    fn class_name(&self) -> &'static str {
        "Qwen3ForCausalLM"
    }

    fn qk_norm(&self) -> bool {
        true
    }

    fn foreign(&self, config: &ModelConfig) -> Vec<(&'static str, bool)> {
        let mut foreign = llama::qwen_only(config);
        foreign.push(("mlp_bias", config.mlp_bias));
        foreign
    }

    fn read(&self, fields: &Fields<'_>) -> Result<ModelConfig> {
        fields.full_attention()?;
        Ok(ModelConfig {
            head_dim: fields.size_or("head_dim", 128)?,
            attention_bias: fields.flag("attention_bias")?,
            ..llama::read(Architecture::Qwen3, fields)?
        })
    }

    fn write(&self, config: &ModelConfig) -> Map<String, Value> {
        let mut map = llama::write(config);
        map.insert("attention_bias".into(), config.attention_bias.into());
        map.insert("use_sliding_window".into(), false.into());
        map
    }
}
