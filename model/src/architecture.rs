//! The architectures, as what each does differently from Llama.
//!
//! All are one [`Decoder`](crate::Decoder): pre-norm blocks of attention with rotary
//! positions and SwiGLU. An architecture says how its `config.json` is spelled, what its
//! tensors are called, and which optional parts (biases, q/k norms) it has. One file each;
//! the defaults below are Llama's.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::config_json::Fields;
use crate::error::Result;
use crate::llama::{self, Llama};
use crate::qwen::Qwen;
use crate::qwen2::Qwen2;
use crate::qwen3::Qwen3;

/// The architectures this crate has, by Hugging Face's `model_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2 (`LlamaForCausalLM`).
    #[default]
    Llama,
    /// Qwen, the first version (`QWenLMHeadModel`).
    Qwen,
    /// Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`).
    Qwen2,
    /// Qwen3 without experts (`Qwen3ForCausalLM`).
    Qwen3,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen, Self::Qwen2, Self::Qwen3];

    /// Its `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen => "qwen",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// What it does differently.
    pub(crate) fn family(self) -> &'static dyn Family {
        match self {
            Self::Llama => &Llama,
            Self::Qwen => &Qwen,
            Self::Qwen2 => &Qwen2,
            Self::Qwen3 => &Qwen3,
        }
    }
}

/// How an architecture differs from Llama.
pub(crate) trait Family {
    /// The class in `config.json`'s `architectures`.
    fn class_name(&self) -> &'static str;

    /// What its tensors are called.
    fn names(&self) -> &'static Names {
        &llama::NAMES
    }

    /// Whether q, k and v have biases.
    fn qkv_bias(&self, config: &ModelConfig) -> bool {
        config.attention_bias
    }

    /// Whether the attention's output projection has a bias.
    fn o_bias(&self, config: &ModelConfig) -> bool {
        config.attention_bias
    }

    /// Whether each head of q and k is normed before it is turned.
    fn qk_norm(&self) -> bool {
        false
    }

    /// The SwiGLU block's inner width.
    fn inner_size(&self, config: &ModelConfig) -> usize {
        config.intermediate_size
    }

    /// Fields of [`ModelConfig`] that another architecture has and this one has not, with
    /// whether they are set.
    fn foreign(&self, config: &ModelConfig) -> Vec<(&'static str, bool)>;

    /// Reads its `config.json`.
    fn read(&self, fields: &Fields<'_>) -> Result<ModelConfig>;

    /// The content of its `config.json`, without what all architectures share.
    fn write(&self, config: &ModelConfig) -> Map<String, Value> {
        llama::write(config)
    }
}

/// Names of tensors, without `.weight` and `.bias`. Those of a layer follow
/// `{layers}.{index}.`. Where q, k and v have one name, the checkpoint holds them as one
/// tensor, q's rows first.
#[derive(Debug)]
pub(crate) struct Names {
    pub embedding: &'static str,
    pub layers: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
    pub input_norm: &'static str,
    pub post_norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub o: &'static str,
    pub q_norm: &'static str,
    pub k_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}
