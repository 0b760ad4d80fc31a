//! config.json and generation_config.json of the imported model.
//!
//! In: the file's metadata; out: a [`ModelConfig`] and JSON. What a configuration cannot say is refused: a rotary
//! embedding over a part of a head, frequency divisors that no `llama3` scaling gives.

use serde_json::{Value, json};

use retort_engine::decoder::Config;
use retort_engine::tokenizer::Vocabulary;
use retort_format::gguf::Gguf;
use retort_format::gguf::names::{HEAD, ROPE_DIVISORS};
use retort_format::precision::shortest_decimal;
use retort_format::{Architecture, Error, ModelConfig, Precision, Result, RopeScaling};

/// The configuration of the model in `gguf`.
pub(super) fn model_config(
    gguf: &Gguf,
    config: &Config,
    vocabulary: &Vocabulary,
) -> Result<ModelConfig> {
    let architecture = config.architecture;
    if config.rope_dim != config.head_dim {
        let key = format!("{}.rope.dimension_count", architecture.name());
        let problem = format!(
            "{} of {} is not supported",
            config.rope_dim, config.head_dim
        );
        return Err(Error::metadata(gguf.path(), &key, problem));
    }
    let rope_scaling = rope_scaling(gguf, config)?;
    if architecture == Architecture::Qwen && rope_scaling.is_some() {
        let problem = "a qwen configuration has no rotary scaling of this kind";
        let key = "qwen.rope.scaling.type";
        return Err(Error::metadata(gguf.path(), key, problem));
    }
    let model = ModelConfig {
        eos_token_id: vocabulary.eos,
        bos_token_id: vocabulary.bos,
        rope_scaling,
        ..config.model_config(!gguf.has_tensor(HEAD))
    };
    model
        .resolve()
        .map_err(|problem| Error::unsupported(gguf.path(), problem))
}

/// config.json for weights stored mostly as `precision`.
pub(super) fn config_json(
    model: &ModelConfig,
    precision: Precision,
    vocabulary: &Vocabulary,
) -> Value {
    let mut json = model.to_json(precision);
    json["use_cache"] = true.into();
    if let Some(pad) = vocabulary.pad {
        json["pad_token_id"] = pad.into();
    }
    let more: &[(&str, Value)] = match model.model_type {
        Architecture::Qwen => &[
            ("attn_dropout_prob", json!(0.0)),
            ("emb_dropout_prob", json!(0.0)),
            ("scale_attn_weights", json!(true)),
        ],
        _ => &[
            ("attention_dropout", json!(0.0)),
            ("head_dim", json!(model.head_dim)),
        ],
    };
    for (key, value) in more {
        json[*key] = value.clone();
    }
    json
}

/// generation_config.json: the tokens that begin and end a text, and all that end an answer, the end of a text first.
pub(super) fn generation_json(vocabulary: &Vocabulary) -> Value {
    let mut json = json!({"_from_model_config": true});
    let ids = [
        ("bos_token_id", vocabulary.bos),
        ("pad_token_id", vocabulary.pad),
    ];
    for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        json[name] = id.into();
    }
    match vocabulary.end_ids().as_slice() {
        [] => {}
        [eos] => json["eos_token_id"] = (*eos).into(),
        ends => json["eos_token_id"] = json!(ends),
    }
    json
}

fn rope_scaling(gguf: &Gguf, config: &Config) -> Result<Option<RopeScaling>> {
    let linear = (config.rope_factor != 1.0).then(|| RopeScaling::Linear {
        factor: shortest_decimal(config.rope_factor),
    });
    if !gguf.has_tensor(ROPE_DIVISORS) {
        return Ok(linear);
    }
    let refuse = |problem: &str| Err(Error::tensor(gguf.path(), ROPE_DIVISORS, problem));
    let tensor = gguf.tensor(ROPE_DIVISORS)?;
    if tensor.dims != [config.rope_dim as u64 / 2] {
        return refuse("it must have one divisor for each pair of a head");
    }
    let original = config.trained_length(gguf)?;
    let theta = f64::from(config.rope_theta);
    match RopeScaling::from_divisors(&tensor.to_f32()?, theta, original) {
        Some(None) => Ok(linear),
        Some(scaling) if linear.is_none() => Ok(scaling),
        Some(_) => refuse("it and linear scaling together have no name in config.json"),
        None => refuse("its divisors are not those of a llama3 scaling"),
    }
}
