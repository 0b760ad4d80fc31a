//! Hugging Face checkpoint directories: `config.json`, `model.safetensors` (or shards
//! with an index), `generation_config.json`. The tokenizer's files are the caller's.

use std::path::Path;

use burn::tensor::Device;
use serde_json::json;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::llama::Llama;
use crate::safetensors_file::{self, Mapped};

/// Loads the model in `directory` onto `device`, in f32.
///
/// # Errors
/// A missing or damaged file, another architecture, or tensors that do not match
/// `config.json` (all of them named in one error).
pub fn load(directory: &Path, device: &Device) -> Result<(ModelConfig, Llama)> {
    let mut config = ModelConfig::from_json_file(&directory.join("config.json"))?;
    let mut mapped = Mapped::open(directory)?;
    // Some exporters leave the flag out and simply drop the head.
    if !config.tie_word_embeddings && !mapped.contains("lm_head.weight") {
        config.tie_word_embeddings = true;
    }
    let model = Llama::build(&config, &mut mapped, device);
    mapped.finish()?;
    Ok((config, model))
}

/// Writes `model` into the existing `directory`, in f32, as `transformers` opens it.
///
/// Not atomic by itself: callers write into a directory aside and rename it.
///
/// # Errors
/// A file cannot be written.
pub fn save(directory: &Path, config: &ModelConfig, model: &Llama) -> Result<()> {
    let mut tensors = Vec::new();
    model.for_each_tensor(|name, shape, values| {
        tensors.push((name.to_owned(), shape.to_vec(), values));
        Ok::<_, Error>(())
    })?;
    safetensors_file::write(&directory.join("model.safetensors"), tensors)?;
    write_json(&directory.join("config.json"), &config.to_json())?;
    write_json(
        &directory.join("generation_config.json"),
        &json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
        }),
    )
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value always serializes");
    std::fs::write(path, text + "\n").map_err(Error::io(path))
}
