//! config.json and generation_config.json of the imported model.
//!
//! In: the file's metadata; out: JSON with the names of `transformers` (or, for `qwen`, of Qwen's
//! own published configuration). What a configuration cannot say is refused: a rotary embedding
//! over a part of a head, frequency divisors that no `llama3` scaling gives.

use serde_json::{Value, json};

use super::plan::Plan;
use retort_engine::decoder::{Config, TRAINED_LENGTH};
use retort_engine::tokenizer::Vocabulary;
use retort_format::Architecture;
use retort_format::gguf::Gguf;
use retort_format::gguf::rope_scaling::RopeScaling;
use retort_format::{Error, GgmlType, Result};

/// All that the configuration is made of.
pub(super) struct Model<'m> {
    pub(super) gguf: &'m Gguf,
    pub(super) config: &'m Config,
    pub(super) vocabulary: &'m Vocabulary,
    pub(super) plan: &'m Plan,
}

impl Model<'_> {
    /// config.json.
    pub(super) fn config(&self) -> Result<Value> {
        let c = self.config;
        if c.rope_dim != c.head_dim {
            let key = format!("{}.rope.dimension_count", c.architecture.name());
            let problem = format!("{} of {} is not supported", c.rope_dim, c.head_dim);
            return Err(Error::metadata(self.gguf.path(), &key, problem));
        }
        let scaling = self.rope_scaling()?;
        let mut json = match c.architecture {
            Architecture::Qwen => self.qwen(scaling)?,
            _ => self.transformers(scaling),
        };
        json["tie_word_embeddings"] = (!self.gguf.has_tensor("output.weight")).into();
        json["torch_dtype"] = match self.plan.main_type() {
            GgmlType::F16 => "float16",
            GgmlType::BF16 => "bfloat16",
            _ => "float32",
        }
        .into();
        json["use_cache"] = true.into();
        json["vocab_size"] = c.vocab_size.into();
        for (name, id) in self.special_ids() {
            json[name] = id.into();
        }
        Ok(json)
    }

    /// generation_config.json: the tokens that begin and end a text; an answer also ends with the
    /// end of a turn, where the file has one.
    pub(super) fn generation(&self) -> Value {
        let mut json = json!({"_from_model_config": true});
        for (name, id) in self.special_ids() {
            json[name] = id.into();
        }
        if let (Some(eos), Some(eot)) = (self.vocabulary.eos, self.vocabulary.eot)
            && eos != eot
        {
            json["eos_token_id"] = json!([eos, eot]);
        }
        json
    }

    fn special_ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let ids = [
            ("bos_token_id", self.vocabulary.bos),
            ("eos_token_id", self.vocabulary.eos),
            ("pad_token_id", self.vocabulary.pad),
        ];
        ids.into_iter().filter_map(|(name, id)| Some((name, id?)))
    }

    fn transformers(&self, scaling: RopeScaling) -> Value {
        let c = self.config;
        let class = match c.architecture {
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        let mut json = json!({
            "architectures": [class],
            "attention_dropout": 0.0,
            "head_dim": c.head_dim,
            "hidden_act": "silu",
            "hidden_size": c.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": c.intermediate_size,
            "max_position_embeddings": c.context_length,
            "model_type": c.architecture.name(),
            "num_attention_heads": c.n_heads,
            "num_hidden_layers": c.n_layers,
            "num_key_value_heads": c.n_kv_heads,
            "rms_norm_eps": decimal(c.rms_norm_eps),
            "rope_scaling": scaling_json(scaling),
            "rope_theta": decimal(c.rope_theta),
        });
        match c.architecture {
            Architecture::Llama => {
                json["attention_bias"] = false.into();
                json["mlp_bias"] = false.into();
            }
            Architecture::Qwen3 => json["attention_bias"] = false.into(),
            Architecture::Qwen | Architecture::Qwen2 => {}
        }
        if c.architecture != Architecture::Llama {
            json["use_sliding_window"] = false.into();
        }
        json
    }

    fn qwen(&self, scaling: RopeScaling) -> Result<Value> {
        let c = self.config;
        if scaling != RopeScaling::None {
            let problem = "a qwen configuration has no rotary scaling of this kind";
            return Err(Error::metadata(
                self.gguf.path(),
                "qwen.rope.scaling.type",
                problem,
            ));
        }
        Ok(json!({
            "architectures": ["QWenLMHeadModel"],
            "attn_dropout_prob": 0.0,
            "emb_dropout_prob": 0.0,
            "hidden_size": c.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": 2 * c.intermediate_size,
            "kv_channels": c.head_dim,
            "layer_norm_epsilon": decimal(c.rms_norm_eps),
            "max_position_embeddings": c.context_length,
            "model_type": "qwen",
            "no_bias": true,
            "num_attention_heads": c.n_heads,
            "num_hidden_layers": c.n_layers,
            "rotary_emb_base": decimal(c.rope_theta),
            "rotary_pct": 1.0,
            "scale_attn_weights": true,
            "seq_length": c.past_trained.trained_length,
            "use_dynamic_ntk": c.past_trained.dynamic_ntk,
            "use_logn_attn": c.past_trained.logn,
        }))
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let c = self.config;
        let linear = match c.rope_factor {
            1.0 => RopeScaling::None,
            factor => RopeScaling::Linear(decimal(factor)),
        };
        let name = "rope_freqs.weight";
        if !self.gguf.has_tensor(name) {
            return Ok(linear);
        }
        let refuse = |problem: &str| Err(Error::tensor(self.gguf.path(), name, problem));
        let tensor = self.gguf.tensor(name)?;
        if tensor.dims != [c.rope_dim as u64 / 2] {
            return refuse("it must have one divisor for each pair of a head");
        }
        let key = format!("{}.{TRAINED_LENGTH}", c.architecture.name());
        let original = match self.gguf.get(&key) {
            Some(_) => Some(f64::from(self.gguf.u32(&key)?)),
            None => None,
        };
        let theta = f64::from(c.rope_theta);
        match RopeScaling::from_divisors(&tensor.to_f32()?, theta, original) {
            Some(RopeScaling::None) => Ok(linear),
            Some(scaling) if linear == RopeScaling::None => Ok(scaling),
            Some(_) => refuse("it and linear scaling together have no name in config.json"),
            None => refuse("its divisors are not those of a llama3 scaling"),
        }
    }
}

fn scaling_json(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear(factor) => json!({"factor": factor, "rope_type": "linear"}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => json!({
            "factor": factor,
            "high_freq_factor": high_freq_factor,
            "low_freq_factor": low_freq_factor,
            "original_max_position_embeddings": original_context as u64,
            "rope_type": "llama3",
        }),
    }
}

/// The shortest decimal that is `x` in single precision: 1e-5 and not 9.999999747378752e-6.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
