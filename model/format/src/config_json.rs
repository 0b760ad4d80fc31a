//! `config.json` in and out, as `transformers` spells it.
//!
//! Reading refuses what this crate would compute differently (another activation, another
//! rope scaling, a sliding window, quantized weights) and ignores what does not touch the
//! forward pass. Writing a config that was read starts from what was read, so that other
//! tools' keys survive; only keys whose meaning has changed are replaced.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::architecture::kind::Architecture;
use crate::config::{ConfigSource, ModelConfig};
use crate::error::{Error, Result};
use crate::json_fields::Fields;
use crate::precision::Precision;

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model of another kind; [`Error::Format`] for a
    /// field that is missing, of another type, or asks for something not supported.
    pub fn from_json_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|e| Error::format(path, format!("not valid JSON: {e}")))?;
        let Value::Object(map) = json else {
            return Err(Error::format(path, "not a JSON object"));
        };
        let mut config = Self::from_map(&map, path)?;
        config.source = ConfigSource(Some(Arc::new(map)));
        Ok(config)
    }

    fn from_map(map: &Map<String, Value>, path: &Path) -> Result<Self> {
        let fields = Fields::new(map, path);
        let kind = fields.text("model_type")?.unwrap_or("absent");
        let architecture = Architecture::from_name(kind).ok_or_else(|| {
            let reason = format!(
                "model_type \"{kind}\" is not supported ({} are); convert the checkpoint or choose \
                 one of these, such as SmolLM2",
                Architecture::names()
            );
            Error::unsupported(path, reason)
        })?;
        if fields.get("quantization_config").is_some() {
            let remedy = "quantized weights are not supported: use the unquantized checkpoint";
            return Err(fields.bad("quantization_config", remedy));
        }
        let config = (architecture.family().read)(&fields)?;
        config.resolve().map_err(|e| Error::format(path, e))
    }

    /// The content of a `config.json` for weights stored as `precision`.
    pub fn to_json(&self, precision: Precision) -> Value {
        let mut own = self.own_keys();
        own.insert("torch_dtype".into(), precision.torch_name().into());
        let Some(source) = &self.source.0 else {
            return Value::Object(own);
        };
        let mut map = (**source).clone();
        // transformers 5 calls it `dtype`.
        let key = ["dtype", "torch_dtype"]
            .into_iter()
            .find(|k| map.contains_key(*k));
        map.insert(
            key.unwrap_or("torch_dtype").into(),
            precision.torch_name().into(),
        );
        let before = Self::from_map(source, Path::new("config.json"))
            .expect("a source is kept only of a config that was read")
            .own_keys();
        for (key, value) in self.own_keys() {
            if before.get(&key) != Some(&value) {
                // Where transformers 5 keeps the rotary settings.
                if let Some(rope) = map
                    .get_mut("rope_parameters")
                    .and_then(Value::as_object_mut)
                {
                    rope.remove(&key);
                }
                map.insert(key, value);
            }
        }
        // Where it is absent it is read as what the other two make of it.
        let wider =
            ["hidden_size", "num_attention_heads"].map(|key| before.get(key) != own.get(key));
        let absent = map.get("head_dim").is_none_or(Value::is_null);
        if let Some(width) = own.get("head_dim")
            && absent
            && wider.contains(&true)
        {
            map.insert("head_dim".into(), width.clone());
        }
        // An entry for each layer; reading has found that all say the same.
        if let Some(Value::Array(layers)) = map.get_mut("layer_types") {
            layers.truncate(self.num_hidden_layers);
        }
        Value::Object(map)
    }

    /// The keys that this crate gives a meaning to.
    fn own_keys(&self) -> Map<String, Value> {
        let family = self.model_type.family();
        let mut map = Map::new();
        map.insert("architectures".into(), json!([family.class_name]));
        map.insert("model_type".into(), self.model_type.name().into());
        map.extend((family.write)(self));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope_scaling::RopeScaling;

    fn read(json: Value) -> Result<ModelConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json.to_string()).unwrap();
        ModelConfig::from_json_file(&path)
    }

    fn with(model_type: &str, changes: Value) -> Value {
        let mut json = json!({
            "model_type": model_type, "vocab_size": 40, "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        });
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        json
    }

    #[test]
    fn every_architecture_round_trips() {
        for (kind, changes) in [
            (
                "llama",
                json!({"attention_bias": true, "mlp_bias": true, "num_key_value_heads": 2}),
            ),
            (
                "llama",
                json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
            ),
            (
                "llama",
                json!({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64}}),
            ),
            ("qwen", json!({"seq_length": 32, "use_logn_attn": false})),
            (
                "qwen2",
                json!({"tie_word_embeddings": true, "eos_token_id": [3, 4]}),
            ),
            ("qwen3", json!({"head_dim": 8, "attention_bias": true})),
        ] {
            let first = read(with(kind, changes)).unwrap();
            let mut bare = first.clone();
            bare.source = ConfigSource::default();
            let mut again = read(bare.to_json(Precision::F32)).unwrap();
            again.source = ConfigSource::default();
            assert_eq!(again, bare);
        }
    }

    #[test]
    fn keys_of_other_tools_survive_and_changed_ones_are_replaced() {
        let json = with(
            "llama",
            json!({"someones_key": [1, 2], "torch_dtype": "bfloat16"}),
        );
        let mut config = read(json.clone()).unwrap();
        assert_eq!(config.to_json(Precision::Bf16), json);
        config.vocab_size = 48;
        let expected = with(
            "llama",
            json!({"someones_key": [1, 2], "torch_dtype": "float16", "vocab_size": 48}),
        );
        assert_eq!(config.to_json(Precision::F16), expected);
    }

    #[test]
    fn the_width_of_a_head_is_written_where_the_other_sizes_no_longer_tell_it() {
        for (kind, head) in [
            ("llama", json!({})),
            ("llama", json!({"head_dim": null})),
            ("qwen2", json!({})),
        ] {
            let mut config = read(with(kind, head)).unwrap();
            config.hidden_size = 12;
            let again = read(config.to_json(Precision::F32)).unwrap();
            assert_eq!((again.hidden_size, again.head_dim), (12, 4), "{kind}");
        }
    }

    #[test]
    fn layer_types_follow_the_number_of_layers() {
        let types = json!({"layer_types": ["full_attention", "full_attention"]});
        let mut config = read(with("qwen3", types)).unwrap();
        config.num_hidden_layers = 1;
        let json = config.to_json(Precision::F32);
        assert_eq!(json["layer_types"], json!(["full_attention"]));
    }

    #[test]
    fn rope_parameters_of_transformers_5_are_read() {
        let rope = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 123.0});
        let config = read(with("qwen2", json!({"rope_parameters": rope}))).unwrap();
        assert_eq!(config.rope_theta, 123.0);
        assert_eq!(
            config.rope_scaling,
            Some(RopeScaling::Linear { factor: 4.0 })
        );
    }

    #[test]
    fn what_would_be_computed_differently_is_refused_by_name() {
        for (kind, changes, expected) in [
            ("mamba", json!({}), "mamba"),
            ("llama", json!({"hidden_act": "gelu"}), "hidden_act"),
            (
                "llama",
                json!({"rope_scaling": {"type": "yarn", "factor": 2}}),
                "yarn",
            ),
            (
                "llama",
                json!({"rope_scaling": {"type": "linear"}}),
                "factor is missing",
            ),
            (
                "llama",
                json!({"quantization_config": {}}),
                "quantization_config",
            ),
            ("llama", json!({"rope_theta": "x"}), "rope_theta"),
            (
                "qwen2",
                json!({"use_sliding_window": true}),
                "use_sliding_window",
            ),
            (
                "qwen3",
                json!({"layer_types": ["sliding_attention"]}),
                "layer_types",
            ),
            (
                "llama",
                json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}),
                "rope_theta is 500000 in it and 10000 elsewhere",
            ),
            ("qwen", json!({"hidden_act": "gelu"}), "hidden_act"),
            (
                "qwen",
                json!({"scale_attn_weights": false}),
                "scale_attn_weights",
            ),
            ("qwen", json!({"no_bias": false}), "no_bias"),
            ("qwen", json!({"rotary_pct": 0.5}), "rotary_pct"),
            ("qwen", json!({"hidden_size": 1.5}), "hidden_size"),
        ] {
            let message = read(with(kind, changes)).unwrap_err().to_string();
            assert!(message.contains(expected), "{expected}: {message}");
            assert!(message.contains("config.json"), "{message}");
        }
    }
}
