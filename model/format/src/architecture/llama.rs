//! Llama 2 and 3 (Touvron et al., arXiv 2307.09288; Grattafiori et al., arXiv 2407.21783),
//! and what is shaped like them, such as SmolLM2. The other architectures are told as
//! differences from this one.
//!
//! `config.json` as `transformers`' `LlamaConfig` has it; the biases are off unless
//! `attention_bias` (q, k, v and o) or `mlp_bias` say otherwise.

use serde_json::{Map, Value, json};

use super::{Architecture, Family, Names, RopePairs};
use crate::config::{self, ModelConfig};
use crate::config_json::Fields;
use crate::error::Result;

/// See the module.
pub(crate) struct Llama;

pub(crate) const NAMES: Names = Names {
    embedding: "model.embed_tokens",
    layers: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    input_norm: "input_layernorm",
    post_norm: "post_attention_layernorm",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    o: "self_attn.o_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
};

impl Family for Llama {
    fn class_name(&self) -> &'static str {
        "LlamaForCausalLM"
    }

    fn rope_pairs(&self) -> RopePairs {
        RopePairs::Adjacent
    }

    fn foreign(&self, config: &ModelConfig) -> Vec<(&'static str, bool)> {
        qwen_only(config)
    }

    fn read(&self, fields: &Fields<'_>) -> Result<ModelConfig> {
        Ok(ModelConfig {
            attention_bias: fields.flag("attention_bias")?,
            mlp_bias: fields.flag("mlp_bias")?,
            ..read(Architecture::Llama, fields)?
        })
    }

    fn write(&self, config: &ModelConfig) -> Map<String, Value> {
        let mut map = write(config);
        map.insert("attention_bias".into(), config.attention_bias.into());
        map.insert("mlp_bias".into(), config.mlp_bias.into());
        map
    }
}

/// The fields that only the first Qwen has.
pub(crate) fn qwen_only(config: &ModelConfig) -> Vec<(&'static str, bool)> {
    vec![
        ("seq_length", config.seq_length != 0),
        ("use_dynamic_ntk", config.use_dynamic_ntk),
        ("use_logn_attn", config.use_logn_attn),
    ]
}

/// The keys that Llama, Qwen2 and Qwen3 share.
pub(crate) fn read(architecture: Architecture, fields: &Fields<'_>) -> Result<ModelConfig> {
    fields.silu()?;
    let (rope_theta, rope_scaling) = fields.rope()?;
    Ok(ModelConfig {
        model_type: architecture,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        num_key_value_heads: fields.size_or("num_key_value_heads", 0)?,
        head_dim: fields.size_or("head_dim", 0)?,
        max_position_embeddings: fields
            .size_or("max_position_embeddings", config::default_positions())?,
        rope_theta: rope_theta.unwrap_or(config::default_rope_theta()),
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        tie_word_embeddings: fields.flag("tie_word_embeddings")?,
        initializer_range: fields
            .number("initializer_range")?
            .unwrap_or(config::default_range()),
        eos_token_id: fields.id("eos_token_id")?,
        bos_token_id: fields.id("bos_token_id")?,
        attention_bias: false,
        mlp_bias: false,
        seq_length: 0,
        use_dynamic_ntk: false,
        use_logn_attn: false,
        rope_scaling,
        source: Default::default(),
    })
}

/// The same keys, written.
pub(crate) fn write(config: &ModelConfig) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.into(), value);
    };
    put("vocab_size", config.vocab_size.into());
    put("hidden_size", config.hidden_size.into());
    put("intermediate_size", config.intermediate_size.into());
    put("num_hidden_layers", config.num_hidden_layers.into());
    put("num_attention_heads", config.num_attention_heads.into());
    put("num_key_value_heads", config.num_key_value_heads.into());
    put("head_dim", config.head_dim.into());
    put(
        "max_position_embeddings",
        config.max_position_embeddings.into(),
    );
    put("rope_theta", config.rope_theta.into());
    put("rope_scaling", json!(config.rope_scaling));
    put("rms_norm_eps", config.rms_norm_eps.into());
    put("tie_word_embeddings", config.tie_word_embeddings.into());
    put("initializer_range", config.initializer_range.into());
    put("eos_token_id", json!(config.eos_token_id));
    put("bos_token_id", json!(config.bos_token_id));
    put("hidden_act", "silu".into());
    map
}
