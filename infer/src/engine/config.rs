//! The shapes and constants of a model, from a GGUF file's metadata.
//!
//! Keys are `{architecture}.…` as in the GGUF specification. Nothing here is trusted beyond its
//! own plausibility: [`super::weights`] holds every size to the tensors, whose sizes are bounded
//! by the file.

use super::architecture::Architecture;
use crate::gguf::Gguf;
use crate::{Error, Result};

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
    /// The number of positions the model was trained for.
    pub context_length: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
}

impl Config {
    /// Reads the metadata of `gguf`.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
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
        let embeddings = gguf.tensor("token_embd.weight")?;
        let [_, vocab_size] = *embeddings.dims else {
            return Err(Error::tensor(
                gguf.path(),
                embeddings.name,
                format!("it has {} dimensions, not 2", embeddings.dims.len()),
            ));
        };
        let config = Self {
            architecture,
            n_layers: keys.size("block_count")?,
            hidden_size,
            intermediate_size: keys.size("feed_forward_length")?,
            n_heads,
            n_kv_heads,
            head_dim,
            rope_dim,
            rope_theta: keys.positive("rope.freq_base", Some(10000.0))?,
            rope_factor: keys.rope_factor()?,
            rms_norm_eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
            context_length: keys.size("context_length")?,
            vocab_size: vocab_size as usize,
        };
        Ok(config)
    }

    /// Weights in a row of q: all query heads together.
    pub fn q_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Weights in a row of k or v: all key heads together.
    pub fn kv_size(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Bytes that the keys and values of `context` positions take; none if that overflows.
    pub fn kv_cache_bytes(&self, context: usize) -> Option<usize> {
        self.kv_size()
            .checked_mul(2 * size_of::<f32>())?
            .checked_mul(self.n_layers)?
            .checked_mul(context)
    }
}

/// The metadata under one architecture's prefix.
struct Keys<'g> {
    gguf: &'g Gguf,
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
        match self.gguf.get(&self.key(field)) {
            Some(_) => self.size(field),
            None => Ok(default),
        }
    }

    fn positive(&self, field: &str, default: Option<f32>) -> Result<f32> {
        let key = self.key(field);
        let value = match default {
            Some(default) if self.gguf.get(&key).is_none() => default,
            _ => self.gguf.f32(&key)?,
        };
        if value > 0.0 && value.is_finite() {
            return Ok(value);
        }
        Err(self.error(field, &format!("{value} is not a positive number")))
    }

    fn rope_factor(&self) -> Result<f32> {
        let kind = "rope.scaling.type";
        match self.gguf.get(&self.key(kind)) {
            None => Ok(1.0),
            Some(_) => match self.gguf.str(&self.key(kind))? {
                "none" => Ok(1.0),
                "linear" => self.positive("rope.scaling.factor", None),
                other => Err(self.error(kind, &format!("{other} is not supported, linear is"))),
            },
        }
    }

    fn refuse_other_kinds(&self) -> Result<()> {
        if self.gguf.get(&self.key("expert_count")).is_some() && self.size("expert_count").is_ok() {
            return Err(self.error("expert_count", "mixtures of experts are not supported"));
        }
        Ok(())
    }
}
