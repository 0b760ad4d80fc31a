//! Llama 2 and 3 (Touvron et al., arXiv 2307.09288; Grattafiori et al., arXiv 2407.21783),
//! and what is shaped like them, such as SmolLM2. The other architectures are told as
//! differences from this one.
//!
//! `config.json` as `transformers`' `LlamaConfig` has it; the biases are off unless
//! `attention_bias` (q, k, v and o) or `mlp_bias` say otherwise.

use serde_json::{Map, Value, json};

use super::family::{Family, Names, RopePairs};
use super::kind::Architecture;
use crate::config::{self, ModelConfig};
use crate::error::Result;
use crate::json_fields::Fields;

pub(super) const FAMILY: Family = Family {
    class_name: "LlamaForCausalLM",
    names: Names {
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
    },
    qkv_bias: false,
    qk_norm: false,
    rope_pairs: RopePairs::Adjacent,
    two_branches: false,
    foreign: qwen_only,
    read: |fields| {
        Ok(ModelConfig {
            attention_bias: fields.flag("attention_bias")?,
            mlp_bias: fields.flag("mlp_bias")?,
            ..read(Architecture::Llama, fields)?
        })
    },
    write: |config| {
        let mut map = write(config);
        map.insert("attention_bias".into(), config.attention_bias.into());
        map.insert("mlp_bias".into(), config.mlp_bias.into());
        map
    },
};

/// The fields that only the first Qwen has.
pub(super) fn qwen_only(config: &ModelConfig) -> Vec<(&'static str, bool)> {
    vec![
        ("seq_length", config.seq_length != 0),
        ("use_dynamic_ntk", config.use_dynamic_ntk),
        ("use_logn_attn", config.use_logn_attn),
    ]
}

/// The keys that all architectures share; what the others mean if they are not there.
pub(super) fn read_shared(architecture: Architecture, fields: &Fields<'_>) -> Result<ModelConfig> {
    fields.silu()?;
    let range = fields.number("initializer_range")?;
    Ok(ModelConfig {
        model_type: architecture,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        num_key_value_heads: 0,
        head_dim: 0,
        max_position_embeddings: config::default_positions(),
        rope_theta: config::default_rope_theta(),
        rms_norm_eps: 1e-6,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?,
        initializer_range: range.unwrap_or(config::default_range()),
        eos_token_id: fields.id("eos_token_id")?,
        bos_token_id: fields.id("bos_token_id")?,
        attention_bias: false,
        mlp_bias: false,
        seq_length: 0,
        use_dynamic_ntk: false,
        use_logn_attn: false,
        rope_scaling: None,
        source: Default::default(),
    })
}

/// The keys that Llama, Qwen2 and Qwen3 share.
pub(super) fn read(architecture: Architecture, fields: &Fields<'_>) -> Result<ModelConfig> {
    let shared = read_shared(architecture, fields)?;
    let (rope_theta, rope_scaling) = fields.rope()?;
    let eps = fields.number("rms_norm_eps")?;
    Ok(ModelConfig {
        num_key_value_heads: fields.size_or("num_key_value_heads", 0)?,
        head_dim: fields.size_or("head_dim", 0)?,
        max_position_embeddings: fields
            .size_or("max_position_embeddings", shared.max_position_embeddings)?,
        rope_theta: rope_theta.unwrap_or(shared.rope_theta),
        rms_norm_eps: eps.unwrap_or(shared.rms_norm_eps),
        rope_scaling,
        ..shared
    })
}

/// The same keys, written: the fields' own names, and those that say something where they are null.
pub(super) fn write(config: &ModelConfig) -> Map<String, Value> {
    let Ok(Value::Object(mut map)) = serde_json::to_value(config) else {
        unreachable!("a config is an object with names")
    };
    map.insert("rope_scaling".into(), json!(config.rope_scaling));
    map.insert("eos_token_id".into(), json!(config.eos_token_id));
    map.insert("bos_token_id".into(), json!(config.bos_token_id));
    map.insert("hidden_act".into(), "silu".into());
    map
}
