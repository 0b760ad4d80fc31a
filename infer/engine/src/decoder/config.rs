//! The shapes and constants of a model, from a GGUF file's metadata.
//!
//! Keys are `{architecture}.…` as in the GGUF specification. Nothing here is trusted beyond its
//! own plausibility: [`super::weights`] holds every size to the tensors, whose sizes are bounded
//! by the file.

use super::kv_block::{BLOCK, KvType};
use retort_format::gguf::names::EMBEDDING;
use retort_format::gguf::{Gguf, Metadata};
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
    /// Reads the metadata of `gguf`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for another architecture, [`Error::Metadata`] for a key that is missing or does not fit.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let rows = match gguf.tensor(EMBEDDING).map(|table| table.dims) {
            Ok(&[_, rows]) => Some(rows as usize),
            // What is wrong with the table will be said together with all other tensors.
            _ => None,
        };
        Self::from_metadata(gguf, rows)
    }

    /// Reads metadata, the embedding table having `rows` rows, or as many as there are tokens.
    ///
    /// # Errors
    ///
    /// As [`from_gguf`](Self::from_gguf).
    pub fn from_metadata(gguf: &Metadata, rows: Option<usize>) -> Result<Self> {
        let name = gguf.str("general.architecture")?;
        let Some(architecture) = Architecture::from_name(name) else {
            let problem = format!(
                "architecture {name} is not supported; {} are",
                Architecture::names()
            );
            return Err(Error::unsupported(gguf.path(), problem));
        };
        let keys = Keys { gguf, name };
        keys.refuse_other_kinds()?;
        let hidden_size = keys.size("embedding_length")?;
        let n_heads = keys.size("attention.head_count")?;
        let n_kv_heads = keys.size_or("attention.head_count_kv", n_heads)?;
        if n_heads % n_kv_heads != 0 {
            return Err(keys.error("attention.head_count_kv", "it does not divide the heads"));
        }
        let head_dim = keys.size_or("attention.key_length", hidden_size / n_heads)?;
        if keys.size_or("attention.value_length", head_dim)? != head_dim {
            return Err(keys.error("attention.value_length", "it differs from key_length"));
        }
        let rope_dim = keys.size_or("rope.dimension_count", head_dim)?;
        if rope_dim % 2 != 0 || rope_dim > head_dim || head_dim == 0 {
            return Err(keys.error("rope.dimension_count", "it must be even and fit a head"));
        }
        let n_tokens = || gguf.str_array("tokenizer.ggml.tokens").map(<[String]>::len);
        let vocab_size = rows.unwrap_or_else(|| n_tokens().unwrap_or(0));
        let feed_forward = "feed_forward_length";
        let mut intermediate_size = keys.size(feed_forward)?;
        let context_length = keys.size("context_length")?;
        let mut past_trained = PastTrained {
            trained_length: context_length,
            dynamic_ntk: false,
            logn: false,
        };
        if architecture == Architecture::Qwen {
            if n_kv_heads != n_heads || n_heads * head_dim != hidden_size {
                let problem =
                    "qwen has as many key heads as query heads, together embedding_length wide";
                return Err(keys.error("attention.head_count", problem));
            }
            // The file says what config.json says: the two branches of the MLP together.
            if !intermediate_size.is_multiple_of(2) {
                return Err(keys.error(feed_forward, "it must be even: two branches together"));
            }
            intermediate_size /= 2;
            past_trained = PastTrained {
                trained_length: keys.size_or(TRAINED_LENGTH, context_length)?,
                dynamic_ntk: keys.flag(DYNAMIC_NTK)?,
                logn: keys.flag(LOGN)?,
            };
        }
        let config = Self {
            architecture,
            n_layers: keys.size("block_count")?,
            hidden_size,
            intermediate_size,
            n_heads,
            n_kv_heads,
            head_dim,
            rope_dim,
            rope_theta: keys.positive("rope.freq_base", Some(10000.0))?,
            rope_factor: keys.rope_factor()?,
            rms_norm_eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            context_length,
            past_trained,
            vocab_size,
        };
        Ok(config)
    }

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

/// Where a file says the length it was trained on, where that is not `context_length`.
pub const TRAINED_LENGTH: &str = "rope.scaling.original_context_length";
/// Where a `qwen` file says [`PastTrained::dynamic_ntk`].
pub const DYNAMIC_NTK: &str = "rope.scaling.dynamic_ntk";
/// Where a `qwen` file says [`PastTrained::logn`].
pub const LOGN: &str = "attention.logn_scaling";

/// The metadata under one architecture's prefix.
struct Keys<'g> {
    gguf: &'g Metadata,
    name: &'g str,
}

impl Keys<'_> {
    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.name)
    }

    fn error(&self, field: &str, problem: &str) -> Error {
        Error::metadata(self.gguf.path(), &self.key(field), problem)
    }

    /// A size of at least 1. Sizes are 32 bits wide, so that the product of two fits a `usize`.
    fn size(&self, field: &str) -> Result<usize> {
        match self.gguf.u32(&self.key(field))? {
            0 => Err(self.error(field, "it is 0")),
            size => Ok(size as usize),
        }
    }

    fn size_or(&self, field: &str, default: usize) -> Result<usize> {
        match self.has(field) {
            true => self.size(field),
            false => Ok(default),
        }
    }

    fn has(&self, field: &str) -> bool {
        self.gguf.get(&self.key(field)).is_some()
    }

    fn positive(&self, field: &str, default: Option<f32>) -> Result<f32> {
        let value = match default {
            Some(default) if !self.has(field) => default,
            _ => self.gguf.f32(&self.key(field))?,
        };
        if value > 0.0 && value.is_finite() {
            return Ok(value);
        }
        Err(self.error(field, &format!("{value} is not a positive number")))
    }

    fn flag(&self, field: &str) -> Result<bool> {
        let flag = self.gguf.optional(&self.key(field), Metadata::bool)?;
        Ok(flag.unwrap_or(false))
    }

    /// As llama.cpp reads it: a factor without a type is linear, 0 is no factor, and older files
    /// have `rope.scale_linear`.
    fn rope_factor(&self) -> Result<f32> {
        let (kind, attention) = ("rope.scaling.type", "rope.scaling.attn_factor");
        if self.positive(attention, Some(1.0))? != 1.0 {
            return Err(self.error(attention, "only 1 is supported"));
        }
        match self.gguf.optional(&self.key(kind), Metadata::str)? {
            Some("none") => return Ok(1.0),
            Some("linear") | None => {}
            Some(other) => {
                let problem = format!("{other} is not supported, linear is");
                return Err(self.error(kind, &problem));
            }
        }
        let given = ["rope.scaling.factor", "rope.scale_linear"]
            .into_iter()
            .find(|field| self.has(field));
        match given {
            Some(field) if self.gguf.f32(&self.key(field))? != 0.0 => self.positive(field, None),
            _ => Ok(1.0),
        }
    }

    fn refuse_other_kinds(&self) -> Result<()> {
        if self.has("expert_count") && self.size("expert_count").is_ok() {
            return Err(self.error("expert_count", "mixtures of experts are not supported"));
        }
        Ok(())
    }
}
