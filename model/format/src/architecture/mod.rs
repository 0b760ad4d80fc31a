//! The architectures, as what each does differently from Llama.
//!
//! All are one decoder: pre-norm blocks of attention with rotary positions and SwiGLU. They differ
//! in how `config.json` is spelled, in the names of tensors, in biases and norms of q and k, in
//! whether q, k and v are one tensor, and in how a GGUF file orders rotary pairs. One file each;
//! the defaults below are Llama's. A new architecture is a file here and a variant of
//! [`Architecture`].

mod llama;
mod qwen;
mod qwen2;
mod qwen3;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::config_json::Fields;
use crate::error::Result;
use llama::Llama;
use qwen::Qwen;
use qwen2::Qwen2;
use qwen3::Qwen3;

/// The architectures, by `config.json`'s `model_type` and GGUF's `general.architecture`.
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

/// Which two elements of a head of n the rotary embedding rotates together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1, as ggml has them for Llama.
    Adjacent,
    /// i and i + n/2, as `transformers` has them.
    Halves,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen, Self::Qwen2, Self::Qwen3];

    /// The architecture called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Every name, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its `model_type`, which is also its name in a GGUF file and the prefix of its keys there.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen => "qwen",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Whether q, k and v always have biases; others may ([`ModelConfig::attention_bias`]).
    pub fn qkv_bias(self) -> bool {
        self.family().qkv_bias()
    }

    /// Whether each head of q and k goes through an RMSNorm before it is rotated.
    pub fn qk_norm(self) -> bool {
        self.family().qk_norm()
    }

    /// Whether q, k and v are the rows of one tensor, in this order.
    pub fn fused_qkv(self) -> bool {
        let names = self.family().names();
        names.q == names.k
    }

    /// How rotary pairs lie in the rows of q and k of a GGUF file; in a checkpoint they are
    /// always halves.
    pub fn rope_pairs(self) -> RopePairs {
        self.family().rope_pairs()
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

    /// See [`Architecture::qkv_bias`].
    fn qkv_bias(&self) -> bool {
        false
    }

    /// See [`Architecture::qk_norm`].
    fn qk_norm(&self) -> bool {
        false
    }

    /// See [`Architecture::rope_pairs`].
    fn rope_pairs(&self) -> RopePairs {
        RopePairs::Halves
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
