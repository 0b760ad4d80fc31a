//! The shapes and constants of a model; how a GGUF file says them: `config_metadata.rs`.

use super::kv_block::{BLOCK, KvType};
use retort_format::precision::shortest_decimal;
use retort_format::rope;
use retort_format::{Architecture, ConfigSource, ModelConfig};
use retort_format::{Error, Result};

/// A decoder's shapes and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which of the related architectures it is.
    pub architecture: Architecture,
    /// The number of layers.
    pub n_layers: usize,
    /// The width of the residual stream.
    pub hidden_size: usize,
    /// The inner width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// How many elements of a head the rotary embedding turns.
    pub rope_dim: usize,
    /// The base of the rotary frequencies.
    pub rope_theta: f32,
    /// Positions are divided by this before the rotary embedding (linear scaling).
    pub rope_factor: f32,
    /// The epsilon of RMSNorm.
    pub rms_norm_eps: f32,
    /// The number of positions the model is made for.
    pub context_length: usize,
    /// What `qwen` does past the length it was trained on.
    pub past_trained: PastTrained,
    /// Rows of the embedding table.
    pub vocab_size: usize,
}

/// How the first Qwen reads texts longer than those it was trained on; its published code is the
/// source. Neither has a place in the GGUF specification: `qwen.rope.scaling.dynamic_ntk` and
/// `qwen.attention.logn_scaling` are this program's keys, and absent in files by others, which
/// are run as llama.cpp runs them: with neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastTrained {
    /// The length that the model was trained on.
    pub trained_length: usize,
    /// Whether the base of the rotary frequencies grows with a longer prompt.
    pub dynamic_ntk: bool,
    /// Whether queries at later positions are scaled by the logarithm of the position to the base
    /// of the trained length.
    pub logn: bool,
}

impl PastTrained {
    /// The factor of Qwen's NTK-aware scaling for a sequence that begins with a prompt of
    /// `length`: 1 up to the trained length, then 3, 7, 15 at each doubling.
    pub fn ntk_alpha(&self, length: usize) -> f64 {
        if self.dynamic_ntk {
            rope::ntk_alpha(length, self.trained_length)
        } else {
            1.0
        }
    }

    /// The factor of a query at `position`, counted from 0.
    pub fn query_scale(&self, position: usize) -> f32 {
        if self.logn {
            rope::logn_factor(position, self.trained_length) as f32
        } else {
            1.0
        }
    }
}

impl Config {
    /// The shape as a checkpoint's configuration has it, without special ids and rotary scaling; `tied` says whether the
    /// head is the embedding table.
    pub fn model_config(&self, tied: bool) -> ModelConfig {
        let qwen = self.architecture == Architecture::Qwen;
        ModelConfig {
            model_type: self.architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            // The first Qwen counts both branches.
            intermediate_size: self.intermediate_size * if qwen { 2 } else { 1 },
            num_hidden_layers: self.n_layers,
            num_attention_heads: self.n_heads,
            num_key_value_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            max_position_embeddings: self.context_length,
            rope_theta: shortest_decimal(self.rope_theta),
            rms_norm_eps: shortest_decimal(self.rms_norm_eps),
            tie_word_embeddings: tied,
            initializer_range: 0.02,
            eos_token_id: None,
            bos_token_id: None,
            attention_bias: false,
            mlp_bias: false,
            seq_length: if qwen {
                self.past_trained.trained_length
            } else {
                0
            },
            use_dynamic_ntk: self.past_trained.dynamic_ntk,
            use_logn_attn: self.past_trained.logn,
            rope_scaling: None,
            source: ConfigSource::default(),
        }
    }

    /// Weights in a row of q: all query heads together.
    pub fn q_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Weights in a row of k or v: all key heads together.
    pub fn kv_size(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Checks that every id is one of the vocabulary's.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] with the first that is not.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.vocab_size;
        match tokens.iter().find(|&&id| id as usize >= vocab_size) {
            Some(id) => Err(Error::Argument(format!(
                "token {id} is outside the vocabulary of {vocab_size}"
            ))),
            None => Ok(()),
        }
    }

    /// Bytes that the keys and values of `context` positions take; none if that overflows.
    pub fn kv_cache_bytes(&self, context: usize, kv: KvType) -> Option<usize> {
        kv.block_bytes(self.head_dim)?
            .checked_mul(self.n_kv_heads)?
            .checked_mul(self.n_layers)?
            .checked_mul(context.div_ceil(BLOCK))
    }
}
