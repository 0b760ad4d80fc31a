//! Hugging Face checkpoint directories: `config.json`, `model.safetensors` (or shards with an
//! index), `generation_config.json`, and the tokenizer's files carried along.

mod companions;
mod reader;
mod safetensors;
mod writer;

use std::path::Path;

use serde_json::{Value, json};

pub use companions::copy_companions;
pub use reader::CheckpointReader;
pub use safetensors::SafetensorsMap;
pub use writer::{MAX_SHARD_BYTES, TensorHeader, TensorSink, write_file, write_weights};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::param_key::ParamKey;
use crate::precision::Precision;
use crate::tensors::tensors;

/// The config in `directory` and its files mapped, every tensor found to be as the config says.
///
/// # Errors
/// A missing or damaged file, another architecture, or tensors that do not match `config.json`
/// (all of them named in one error).
pub fn open(directory: &Path) -> Result<(ModelConfig, SafetensorsMap)> {
    let path = directory.join("config.json");
    let mut config = ModelConfig::from_json_file(&path)?;
    let mut mapped = SafetensorsMap::open(directory)?;
    let [embedding, head] = [ParamKey::Embedding, ParamKey::Head].map(|key| key.tensor(&config));
    if !config.tie_word_embeddings && !mapped.contains(&head) {
        // Some exporters leave the flag out and simply drop the head.
        config.tie_word_embeddings = true;
    }
    if config.tie_word_embeddings && mapped.contains(&head) {
        // Others keep both; that is well where they are the same.
        if !mapped.equal(&embedding, &head) {
            let reason = format!(
                "field tie_word_embeddings: is true, but {head} differs from {embedding}: set it to false"
            );
            return Err(Error::format(&path, reason));
        }
        mapped.ignore(&head);
    }
    mapped.check(&tensors(&config))?;
    Ok((config, mapped))
}

/// How the weights in `directory` are stored (those of its largest tensor).
///
/// # Errors
/// A missing or damaged file.
pub fn stored_precision(directory: &Path) -> Result<Precision> {
    Ok(SafetensorsMap::open(directory)?.stored_precision())
}

/// Writes `config.json` and a `generation_config.json` for weights stored as `precision`.
///
/// # Errors
/// A file cannot be written.
pub fn write_config(directory: &Path, config: &ModelConfig, precision: Precision) -> Result<()> {
    write_json(&directory.join("config.json"), &config.to_json(precision))?;
    write_json(
        &directory.join("generation_config.json"),
        &json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
        }),
    )
}

/// Writes `value` to `path`, indented.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value always serializes");
    retort_files::write(path, (text + "\n").as_bytes()).map_err(Error::io(path))
}
