//! Qwen3 (arXiv 2505.09388), the dense ones: Llama where each head of q and k goes through
//! an RMSNorm over its `head_dim` before it is rotated by its position. The width of a head
//! is a key of its own and the heads together need not be as wide as the model.
//!
//! `config.json` as `transformers`' `Qwen3Config`; a sliding window is refused.

use super::family::{Family, RopePairs};
use super::kind::Architecture;
use super::llama;
use crate::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    class_name: "Qwen3ForCausalLM",
    qk_norm: true,
    rope_pairs: RopePairs::Halves,
    foreign: |config| {
        [
            llama::qwen_only(config),
            vec![("mlp_bias", config.mlp_bias)],
        ]
        .concat()
    },
    read: |fields| {
        fields.full_attention()?;
        Ok(ModelConfig {
            head_dim: fields.size_or("head_dim", 128)?,
            attention_bias: fields.flag("attention_bias")?,
            ..llama::read(Architecture::Qwen3, fields)?
        })
    },
    write: |config| {
        let mut map = llama::write(config);
        map.insert("attention_bias".into(), config.attention_bias.into());
        map.insert("use_sliding_window".into(), false.into());
        map
    },
    ..llama::FAMILY
};
