//! config.json of a Hugging Face directory: shapes and constants of a Llama-like decoder.
//!
//! Reads `model_type` llama, qwen2 and qwen3, in the layout of transformers 4 (`rope_theta`,
//! `rope_scaling`) and 5 (`rope_parameters`), and qwen with the names of its own published code.
//! What the exported file could not express is refused.

use std::path::Path;

use serde_json::Value;

use retort_engine::decoder::PastTrained;
use retort_format::Architecture;
use retort_format::gguf::rope_scaling::RopeScaling;
use retort_format::gguf::tensor_names::Dimensions;
use retort_format::{Error, Result};

/// What export needs of config.json.
#[derive(Clone, Debug)]
pub(super) struct HfConfig {
    pub(super) dimensions: Dimensions,
    pub(super) rms_norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) rope_scaling: RopeScaling,
    pub(super) context_length: usize,
    /// For `qwen`.
    pub(super) past_trained: Option<PastTrained>,
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
        fields.refuse_what_is_not_expressed(architecture)?;
        if architecture == Architecture::Qwen {
            return fields.qwen();
        }
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
        if architecture != Architecture::Llama && matches!(rope_scaling, RopeScaling::Llama3 { .. })
        {
            let problem = format!("llama3 has no place in a GGUF file of {model_type}");
            return Err(fields.error("rope_type", &problem));
        }
        Ok(Self {
            dimensions: Dimensions {
                architecture,
                n_layers: fields.size("num_hidden_layers")?,
                hidden_size,
                intermediate_size: fields.size("intermediate_size")?,
                n_heads,
                n_kv_heads,
                head_dim,
                vocab_size: fields.size("vocab_size")?,
                tied: fields.tied(),
            },
            rms_norm_eps: fields.positive("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            context_length,
            past_trained: None,
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

    fn tied(&self) -> bool {
        self.json["tie_word_embeddings"].as_bool().unwrap_or(false)
    }

    /// The configuration of `QWenLMHeadModel`, which has names of its own.
    fn qwen(&self) -> Result<HfConfig> {
        let hidden_size = self.size("hidden_size")?;
        let n_heads = self.size("num_attention_heads")?;
        let head_dim = self.size_or("kv_channels", hidden_size / n_heads)?;
        if head_dim * n_heads != hidden_size || !head_dim.is_multiple_of(2) {
            let problem = "it must be even, and hidden_size over num_attention_heads";
            return Err(self.error("kv_channels", problem));
        }
        let both_branches = self.size("intermediate_size")?;
        if !both_branches.is_multiple_of(2) {
            return Err(self.error(
                "intermediate_size",
                "it must be even: two branches together",
            ));
        }
        if self.positive("rotary_pct", 1.0)? != 1.0 {
            return Err(self.error("rotary_pct", "only 1 is supported"));
        }
        let trained_length = self.size_or("seq_length", self.size("max_position_embeddings")?)?;
        let flag = |field: &str| self.json[field].as_bool().unwrap_or(true);
        Ok(HfConfig {
            dimensions: Dimensions {
                architecture: Architecture::Qwen,
                n_layers: self.size("num_hidden_layers")?,
                hidden_size,
                intermediate_size: both_branches / 2,
                n_heads,
                n_kv_heads: n_heads,
                head_dim,
                vocab_size: self.size("vocab_size")?,
                tied: self.tied(),
            },
            rms_norm_eps: self.positive("layer_norm_epsilon", 1e-6)?,
            rope_theta: self.positive("rotary_emb_base", 10000.0)?,
            rope_scaling: RopeScaling::None,
            context_length: self.size("max_position_embeddings")?,
            past_trained: Some(PastTrained {
                trained_length,
                dynamic_ntk: flag("use_dynamic_ntk"),
                logn: flag("use_logn_attn"),
            }),
        })
    }

    fn refuse_what_is_not_expressed(&self, architecture: Architecture) -> Result<()> {
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
        let only_true = ["no_bias", "scale_attn_weights"];
        for field in only_true
            .into_iter()
            .filter(|_| architecture == Architecture::Qwen)
        {
            if self.json[field] == false {
                return Err(self.error(field, "false is not supported"));
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
