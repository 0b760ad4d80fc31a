//! What an architecture does differently from Llama.

use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::json_fields::Fields;

/// Which two elements of a head of n the rotary embedding rotates together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1, as ggml has them for Llama.
    Adjacent,
    /// i and i + n/2, as `transformers` has them.
    Halves,
}

/// How an architecture differs from Llama; see [`Architecture`](super::Architecture) for the facts.
pub(crate) struct Family {
    /// The class in `config.json`'s `architectures`.
    pub class_name: &'static str,
    /// What its tensors are called.
    pub names: Names,
    /// Whether q, k and v always have biases.
    pub qkv_bias: bool,
    /// Whether each head of q and k goes through a norm.
    pub qk_norm: bool,
    /// How rotary pairs lie in a GGUF file.
    pub rope_pairs: RopePairs,
    /// Whether `intermediate_size` counts both branches of the SwiGLU block.
    pub two_branches: bool,
    /// Fields of [`ModelConfig`] that another architecture has and this one has not, with
    /// whether they are set.
    pub foreign: fn(&ModelConfig) -> Vec<(&'static str, bool)>,
    /// Reads its `config.json`.
    pub read: fn(&Fields<'_>) -> Result<ModelConfig>,
    /// The content of its `config.json`, without what all architectures share.
    pub write: fn(&ModelConfig) -> Map<String, Value>,
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
