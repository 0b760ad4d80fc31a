//! Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on q, k and v, and
//! only there. The smaller ones tie the head to the embedding.
//!
//! `config.json` as `transformers`' `Qwen2Config`; a sliding window is refused.

use super::family::{Family, RopePairs};
use super::kind::Architecture;
use super::llama;

pub(super) const FAMILY: Family = Family {
    class_name: "Qwen2ForCausalLM",
    qkv_bias: true,
    rope_pairs: RopePairs::Halves,
    foreign: |config| {
        let biases = [
            ("attention_bias", config.attention_bias),
            ("mlp_bias", config.mlp_bias),
        ];
        [llama::qwen_only(config), biases.into()].concat()
    },
    read: |fields| {
        fields.full_attention()?;
        llama::read(Architecture::Qwen2, fields)
    },
    write: |config| {
        let mut map = llama::write(config);
        // Not one of the class's own keys, so only written where it says something.
        if config.head_dim * config.num_attention_heads == config.hidden_size {
            map.shift_remove("head_dim");
        }
        map.insert("use_sliding_window".into(), false.into());
        map
    },
    ..llama::FAMILY
};
