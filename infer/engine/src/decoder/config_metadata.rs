//! A model's shapes and constants as the metadata of a GGUF file, in and out.
//!
//! Keys are `{architecture}.…` as in the GGUF specification and llama.cpp's `convert_hf_to_gguf.py`. Nothing that is read
//! is trusted beyond its own plausibility: [`super::weights`] holds every size to the tensors, whose sizes are bounded
//! by the file.

use std::path::Path;

use super::config::{Config, PastTrained};
use retort_format::gguf::names::EMBEDDING;
use retort_format::gguf::{Gguf, Metadata};
use retort_format::{Architecture, Error, ModelConfig, Result, RopeScaling};

const CONTEXT_LENGTH: &str = "context_length";
const EMBEDDING_LENGTH: &str = "embedding_length";
const BLOCK_COUNT: &str = "block_count";
const FEED_FORWARD_LENGTH: &str = "feed_forward_length";
const HEAD_COUNT: &str = "attention.head_count";
const HEAD_COUNT_KV: &str = "attention.head_count_kv";
const KEY_LENGTH: &str = "attention.key_length";
const VALUE_LENGTH: &str = "attention.value_length";
const ROPE_DIMENSIONS: &str = "rope.dimension_count";
const RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
const ROPE_BASE: &str = "rope.freq_base";
const ROPE_SCALING_TYPE: &str = "rope.scaling.type";
const ROPE_SCALING_FACTOR: &str = "rope.scaling.factor";
/// Where a file says the length it was trained on, where that is not `context_length`.
const TRAINED_LENGTH: &str = "rope.scaling.original_context_length";
/// Where a `qwen` file says [`PastTrained::dynamic_ntk`].
const DYNAMIC_NTK: &str = "rope.scaling.dynamic_ntk";
/// Where a `qwen` file says [`PastTrained::logn`].
const LOGN: &str = "attention.logn_scaling";

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
        let hidden_size = keys.size(EMBEDDING_LENGTH)?;
        let n_heads = keys.size(HEAD_COUNT)?;
        let n_kv_heads = keys.size_or(HEAD_COUNT_KV, n_heads)?;
        if n_heads % n_kv_heads != 0 {
            return Err(keys.error(HEAD_COUNT_KV, "it does not divide the heads"));
        }
        let head_dim = keys.size_or(KEY_LENGTH, hidden_size / n_heads)?;
        if keys.size_or(VALUE_LENGTH, head_dim)? != head_dim {
            return Err(keys.error(VALUE_LENGTH, "it differs from key_length"));
        }
        let rope_dim = keys.size_or(ROPE_DIMENSIONS, head_dim)?;
        if rope_dim % 2 != 0 || rope_dim > head_dim || head_dim == 0 {
            return Err(keys.error(ROPE_DIMENSIONS, "it must be even and fit a head"));
        }
        let n_tokens = || gguf.str_array("tokenizer.ggml.tokens").map(<[String]>::len);
        let vocab_size = rows.unwrap_or_else(|| n_tokens().unwrap_or(0));
        let mut intermediate_size = keys.size(FEED_FORWARD_LENGTH)?;
        let context_length = keys.size(CONTEXT_LENGTH)?;
        let mut past_trained = PastTrained {
            trained_length: context_length,
            dynamic_ntk: false,
            logn: false,
        };
        if architecture == Architecture::Qwen {
            if n_kv_heads != n_heads || n_heads * head_dim != hidden_size {
                let problem =
                    "qwen has as many key heads as query heads, together embedding_length wide";
                return Err(keys.error(HEAD_COUNT, problem));
            }
            // The file says what config.json says: the two branches of the MLP together.
            if !intermediate_size.is_multiple_of(2) {
                return Err(keys.error(
                    FEED_FORWARD_LENGTH,
                    "it must be even: two branches together",
                ));
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
            n_layers: keys.size(BLOCK_COUNT)?,
            hidden_size,
            intermediate_size,
            n_heads,
            n_kv_heads,
            head_dim,
            rope_dim,
            rope_theta: keys.positive(ROPE_BASE, Some(10000.0))?,
            rope_factor: keys.rope_factor()?,
            rms_norm_eps: keys.positive(RMS_EPSILON, None)?,
            context_length,
            past_trained,
            vocab_size,
        };
        Ok(config)
    }

    /// The length that `gguf` says its model was trained on, for rotary scaling.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if that is no size.
    pub fn trained_length(&self, gguf: &Metadata) -> Result<Option<usize>> {
        let key = format!("{}.{TRAINED_LENGTH}", self.architecture.name());
        let length = gguf.optional(&key, Metadata::u32)?;
        Ok(length.map(|length| length as usize))
    }
}

/// The metadata of the model in `dir`, without its tokenizer.
pub fn config_metadata(dir: &Path, model: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new(dir);
    let architecture = model.model_type.name();
    let folder = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = folder.file_name().map(|name| name.to_string_lossy());
    metadata.set("general.architecture", architecture);
    metadata.set("general.type", "model");
    metadata.set("general.name", name.as_deref().unwrap_or("model"));
    metadata.set("general.file_type", 0u32);
    metadata.set("general.quantization_version", 2u32);
    let key = |field: &str| format!("{architecture}.{field}");
    let sizes = [
        ("vocab_size", model.vocab_size),
        (CONTEXT_LENGTH, model.max_position_embeddings),
        (EMBEDDING_LENGTH, model.hidden_size),
        (BLOCK_COUNT, model.num_hidden_layers),
        // Readers of `qwen` files halve it, as Qwen's own code halves config.json's.
        (FEED_FORWARD_LENGTH, model.intermediate_size),
        (HEAD_COUNT, model.num_attention_heads),
        (HEAD_COUNT_KV, model.num_key_value_heads),
        (KEY_LENGTH, model.head_dim),
        (VALUE_LENGTH, model.head_dim),
        (ROPE_DIMENSIONS, model.head_dim),
    ];
    for (field, size) in sizes {
        // ModelConfig::resolve refuses sizes beyond 2^24.
        metadata.set(&key(field), size as u32);
    }
    let eps = model.rms_norm_eps as f32;
    metadata.set(&key(RMS_EPSILON), eps);
    metadata.set(&key(ROPE_BASE), model.rope_theta as f32);
    match model.rope_scaling {
        None => {}
        Some(RopeScaling::Linear { factor }) => {
            metadata.set(&key(ROPE_SCALING_TYPE), "linear");
            metadata.set(&key(ROPE_SCALING_FACTOR), factor as f32);
        }
        // The scaling itself is in rope_freqs.weight; only import asks for this.
        Some(RopeScaling::Llama3 {
            original_max_position_embeddings: length,
            ..
        }) => metadata.set(&key(TRAINED_LENGTH), length as u32),
    }
    if model.model_type == Architecture::Qwen {
        metadata.set(&key(TRAINED_LENGTH), model.seq_length as u32);
        metadata.set(&key(DYNAMIC_NTK), model.use_dynamic_ntk);
        metadata.set(&key(LOGN), model.use_logn_attn);
    }
    metadata
}

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
        if self.has(field) {
            self.size(field)
        } else {
            Ok(default)
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
        let (kind, attention) = (ROPE_SCALING_TYPE, "rope.scaling.attn_factor");
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
        let given = [ROPE_SCALING_FACTOR, "rope.scale_linear"]
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
