//! Hugging Face checkpoint directories: `config.json`, `model.safetensors` (or shards
//! with an index), `generation_config.json`, and the tokenizer's files carried along.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::precision::Precision;
use crate::tensors::{embedding_name, head_name, tensors};
use crate::writer::write_weights;

/// Loads the model in `directory` onto `device`, in f32.
///
/// # Errors
/// A missing or damaged file, another architecture, or tensors that do not match
/// `config.json` (all of them named in one error).
pub fn load(directory: &Path, device: &Device) -> Result<(ModelConfig, Decoder)> {
    load_as(directory, device, Precision::F32)
}

/// The same with matrices held as `precision`. Half precision is for models that are only
/// read: its weights are not trained, and are widened as they are used.
///
/// # Errors
/// As [`load`].
pub fn load_as(
    directory: &Path,
    device: &Device,
    precision: Precision,
) -> Result<(ModelConfig, Decoder)> {
    let (config, mut mapped) = open(directory, precision)?;
    let model = Decoder::build(&config, &mut mapped, device);
    Ok((config, model))
}

/// The config in `directory` and its files mapped, every tensor found to be as it says.
pub(crate) fn open(directory: &Path, precision: Precision) -> Result<(ModelConfig, Mapped)> {
    let path = directory.join("config.json");
    let mut config = ModelConfig::from_json_file(&path)?;
    let mut mapped = Mapped::open(directory, precision)?;
    let (embedding, head) = (embedding_name(&config), head_name(&config));
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
            return Err(Error::invalid(&path, reason));
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
    Ok(Mapped::open(directory, Precision::F32)?.stored_precision())
}

/// How [`save_as`] writes.
#[derive(Clone, Copy, Debug)]
pub struct SaveOptions<'a> {
    /// How weights are stored.
    pub precision: Precision,
    /// The size above which the weights are cut into shards, in bytes.
    pub max_shard_bytes: u64,
    /// The directory the model came from: its tokenizer, chat template and generation
    /// settings are copied.
    pub source: Option<&'a Path>,
}

impl Default for SaveOptions<'_> {
    /// f32, shards of 5 GB as `transformers` has had them, nothing copied.
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            max_shard_bytes: 5_000_000_000,
            source: None,
        }
    }
}

/// Writes `model` into the existing `directory`, in f32, as `transformers` opens it.
/// Adapters are merged into the weights.
///
/// Not atomic by itself: callers write into a directory aside and rename it.
///
/// # Errors
/// A file cannot be written.
pub fn save(directory: &Path, config: &ModelConfig, model: &Decoder) -> Result<()> {
    save_as(directory, config, model, &SaveOptions::default())
}

/// The same as `options` say.
///
/// # Errors
/// A file cannot be written, or one of the source's cannot be read.
pub fn save_as(
    directory: &Path,
    config: &ModelConfig,
    model: &Decoder,
    options: &SaveOptions<'_>,
) -> Result<()> {
    let precision = options.precision;
    write_weights(
        directory,
        &tensors(&model.config),
        precision,
        options.max_shard_bytes,
        &|spec| model.tensor(spec, precision),
    )?;
    write_config(directory, config, precision)?;
    match options.source {
        Some(source) => copy_companions(source, directory),
        None => Ok(()),
    }
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

/// Files beside the weights that belong to a model, by name or by ending.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.json",
    ".jinja",
    ".tiktoken",
];

/// Copies the tokenizer, chat template and generation settings of one checkpoint into
/// another.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_companions(source: &Path, directory: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().map_err(Error::io(path));
    if real(source)? == real(directory)? {
        return Ok(());
    }
    for entry in fs::read_dir(source).map_err(Error::io(source))? {
        let path = entry.map_err(Error::io(source))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let companion = |c: &str| name == c || c.starts_with('.') && name.ends_with(c);
        if COMPANIONS.iter().any(|c| companion(c)) && path.is_file() {
            fs::copy(&path, directory.join(name)).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value always serializes");
    fs::write(path, text + "\n").map_err(Error::io(path))
}
