//! Qwen, the first version (arXiv 2309.16609; `QWenLMHeadModel`, code published with
//! Qwen-7B).
//!
//! Against Llama: no grouped heads; q, k and v are one tensor with a bias (`c_attn`), and
//! nothing else has one; of the SwiGLU block `c_proj(w1(x) · silu(w2(x)))`, w2 is the gate
//! and the inner width is half of `intermediate_size`; the trained length is `seq_length`.
//!
//! Past the trained length, and never in training, two things change:
//! * `use_dynamic_ntk`: the rotary base becomes base · α^(d/(d−2)) with d = head_dim and
//!   α = max(1, 2^⌈log₂(length / seq_length) + 1⌉ − 1), for the sequence as a whole;
//! * `use_logn_attn`: the query at 1-based position p > `seq_length` is multiplied by
//!   log p / log `seq_length`.

use serde_json::{Map, Value, json};

use super::family::{Family, Names, RopePairs};
use super::kind::Architecture;
use super::llama;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::json_fields::Fields;

pub(super) const FAMILY: Family = Family {
    class_name: "QWenLMHeadModel",
    names: Names {
        embedding: "transformer.wte",
        layers: "transformer.h",
        norm: "transformer.ln_f",
        head: "lm_head",
        input_norm: "ln_1",
        post_norm: "ln_2",
        q: "attn.c_attn",
        k: "attn.c_attn",
        v: "attn.c_attn",
        o: "attn.c_proj",
        q_norm: "attn.q_norm",
        k_norm: "attn.k_norm",
        gate: "mlp.w2",
        up: "mlp.w1",
        down: "mlp.c_proj",
    },
    qkv_bias: true,
    qk_norm: false,
    rope_pairs: RopePairs::Halves,
    two_branches: true,
    foreign,
    read,
    write,
};

fn foreign(config: &ModelConfig) -> Vec<(&'static str, bool)> {
    let grouped = config.num_key_value_heads != config.num_attention_heads;
    let wide = config.head_dim * config.num_attention_heads != config.hidden_size;
    vec![
        ("num_key_value_heads", grouped),
        ("head_dim", wide),
        ("attention_bias", config.attention_bias),
        ("mlp_bias", config.mlp_bias),
        ("rope_scaling", config.rope_scaling.is_some()),
    ]
}

fn read(fields: &Fields<'_>) -> Result<ModelConfig> {
    let shared = llama::read_shared(Architecture::Qwen, fields)?;
    for key in ["no_bias", "scale_attn_weights"] {
        if !fields.flag_or(key, true)? {
            return Err(fields.bad(key, "false is not supported"));
        }
    }
    if fields.number("rotary_pct")?.is_some_and(|p| p != 1.0) {
        return Err(fields.bad("rotary_pct", "only 1.0 is supported"));
    }
    let seq_length = fields.size_or("seq_length", 8192)?;
    let theta = fields.number("rotary_emb_base")?;
    let eps = fields.number("layer_norm_epsilon")?;
    Ok(ModelConfig {
        head_dim: fields.size_or("kv_channels", 0)?,
        max_position_embeddings: fields.size_or("max_position_embeddings", seq_length)?,
        rope_theta: theta.unwrap_or(shared.rope_theta),
        rms_norm_eps: eps.unwrap_or(shared.rms_norm_eps),
        seq_length,
        use_dynamic_ntk: fields.flag_or("use_dynamic_ntk", true)?,
        use_logn_attn: fields.flag_or("use_logn_attn", true)?,
        ..shared
    })
}

fn write(config: &ModelConfig) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "kv_channels": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "seq_length": config.seq_length,
        "use_dynamic_ntk": config.use_dynamic_ntk,
        "use_logn_attn": config.use_logn_attn,
        "rotary_emb_base": config.rope_theta,
        "rotary_pct": 1.0,
        "layer_norm_epsilon": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
        "eos_token_id": config.eos_token_id,
        "bos_token_id": config.bos_token_id,
        "no_bias": true,
    }) else {
        unreachable!("the macro was given an object")
    };
    map
}
