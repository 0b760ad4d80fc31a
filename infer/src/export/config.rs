//! config.json of a Hugging Face directory: shapes and constants of a Llama-like decoder.
//!
//! Reads `model_type` llama, qwen2 and qwen3, in the layout of transformers 4 (`rope_theta`,
//! `rope_scaling`) and 5 (`rope_parameters`). What the exported file could not express is refused.

use std::path::Path;

use serde_json::Value;

use crate::engine::Architecture;
use crate::{Error, Result};

/// How positions are stretched past the trained context.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f64),
    /// Llama 3's: low frequencies divided by a factor, high ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: f64,
    },
}

/// What export needs of config.json.
#[derive(Clone, Debug)]
pub(super) struct HfConfig {
    pub(super) architecture: Architecture,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) rms_norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) rope_scaling: RopeScaling,
    pub(super) tie_word_embeddings: bool,
    pub(super) vocab_size: usize,
    pub(super) context_length: usize,
}

impl HfConfig {
    /// Reads and checks `config.json` in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let json = super::read_json(&path)?;
        let fields = Fields {
            path: &path,
            json: &json,
        };
        let model_type = json["model_type"].as_str().unwrap_or("(none)");
        let Some(architecture) = Architecture::from_name(model_type) else {
            let problem = format!(
                "model_type {model_type} cannot be exported; {} can",
                Architecture::names()
            );
            return Err(Error::unsupported(&path, problem));
        };
        fields.refuse_what_is_not_expressed()?;
        let hidden_size = fields.size("hidden_size")?;
        let n_heads = fields.size("num_attention_heads")?;
        let n_kv_heads = fields.size_or("num_key_value_heads", n_heads)?;
        let head_dim = fields.size_or("head_dim", hidden_size / n_heads)?;
        if n_heads % n_kv_heads != 0 {
            return Err(fields.error("num_key_value_heads", "it does not divide the heads"));
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(fields.error("head_dim", "it must be even"));
        }
        let context_length = fields.size("max_position_embeddings")?;
        let (rope_theta, rope_scaling) = fields.rope(context_length)?;
        Ok(Self {
            architecture,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            n_layers: fields.size("num_hidden_layers")?,
            n_heads,
            n_kv_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            vocab_size: fields.size("vocab_size")?,
            context_length,
        })
    }
}

/// config.json with its path, for errors that name the field.
struct Fields<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Fields<'_> {
    fn error(&self, field: &str, problem: &str) -> Error {
        Error::format(self.path, format!("{field}: {problem}"))
    }

    fn size(&self, field: &str) -> Result<usize> {
        match self.json[field].as_u64() {
            // The GGUF keys hold u32.
            Some(n) if n > 0 && u32::try_from(n).is_ok() => Ok(n as usize),
            _ if self.json[field].is_null() => Err(self.error(field, "it is missing")),
            _ => Err(self.error(field, "it must be a positive integer below 2^32")),
        }
    }

    fn size_or(&self, field: &str, default: usize) -> Result<usize> {
        if self.json[field].is_null() {
            return Ok(default);
        }
        self.size(field)
    }

    fn positive(&self, field: &str, default: f64) -> Result<f64> {
        self.positive_in(self.json, field, Some(default))
    }

    fn positive_in(&self, json: &Value, field: &str, default: Option<f64>) -> Result<f64> {
        match (json[field].as_f64(), default) {
            (Some(value), _) if value > 0.0 && value.is_finite() => Ok(value),
            (None, Some(default)) if json[field].is_null() => Ok(default),
            _ => Err(self.error(field, "it must be a positive number")),
        }
    }

    fn refuse_what_is_not_expressed(&self) -> Result<()> {
        let activation = self.json["hidden_act"].as_str().unwrap_or("silu");
        if activation != "silu" {
            return Err(self.error(
                "hidden_act",
                &format!("{activation} is not supported, silu is"),
            ));
        }
        for field in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if self.json[field] == true {
                return Err(self.error(field, "true is not supported"));
            }
        }
        Ok(())
    }

    /// Base and scaling of the rotary embedding.
    fn rope(&self, context_length: usize) -> Result<(f64, RopeScaling)> {
        let scaling = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .map(|field| &self.json[field])
            .find(|value| value.is_object())
            .unwrap_or(&Value::Null);
        let top = self.positive("rope_theta", 10000.0)?;
        let theta = self.positive_in(scaling, "rope_theta", Some(top))?;
        if self.positive("partial_rotary_factor", 1.0)? != 1.0
            || self.positive_in(scaling, "partial_rotary_factor", Some(1.0))? != 1.0
        {
            return Err(self.error("partial_rotary_factor", "only 1 is supported"));
        }
        let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str());
        let number = |field| self.positive_in(scaling, field, None);
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(number("factor")?),
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: self.positive_in(
                    scaling,
                    "original_max_position_embeddings",
                    Some(context_length as f64),
                )?,
            },
            other => {
                let problem = format!("{other} is not supported; default, linear and llama3 are");
                return Err(self.error("rope_type", &problem));
            }
        };
        Ok((theta, scaling))
    }
}

impl RopeScaling {
    /// The divisor of each rotary frequency, the contents of `rope_freqs.weight`
    /// [head_dim / 2], where the scaling needs them.
    pub(super) fn frequency_divisors(&self, head_dim: usize, theta: f64) -> Option<Vec<f32>> {
        let &Self::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } = self
        else {
            return None;
        };
        let divisor = |pair: usize| {
            let frequency = theta.powf(-2.0 * pair as f64 / head_dim as f64);
            let turns = original_context * frequency / std::f64::consts::TAU;
            if turns > high_freq_factor {
                1.0
            } else if turns < low_freq_factor {
                factor
            } else {
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..head_dim / 2).map(|pair| divisor(pair) as f32).collect())
    }
}
