//! A decoder in and out of a Hugging Face checkpoint directory (`retort_format::checkpoint`).

use std::path::Path;

use burn::tensor::Device;
use retort_format::checkpoint::{
    self, MAX_SHARD_BYTES, TensorHeader, copy_companions, write_config, write_weights,
};
use retort_format::{ModelConfig, Precision, Result, tensors};

use crate::decoder::Decoder;
use crate::weights::CheckpointWeights;

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
    let (config, map) = checkpoint::open(directory)?;
    let model = Decoder::build(&config, &mut CheckpointWeights::new(map, precision), device);
    Ok((config, model))
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
            max_shard_bytes: MAX_SHARD_BYTES,
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
    let specs = tensors(&model.config);
    let headers = TensorHeader::all(&specs, precision);
    write_weights(directory, &headers, options.max_shard_bytes, |i, sink| {
        sink.write(&model.tensor(&specs[i], precision))
    })?;
    write_config(directory, config, precision)?;
    match options.source {
        Some(source) => copy_companions(source, directory),
        None => Ok(()),
    }
}
