//! The latent weights of quantization-aware training in a checkpoint, beside the rounded weights that
//! [`save`](crate::save) writes.

use retort_format::checkpoint::{SafetensorsMap, TensorHeader, write_file};
use retort_format::{ModelConfig, Precision, Result, tensors};
use std::path::Path;

use crate::decoder::Decoder;
use crate::weights::CheckpointWeights;

/// Their file. Not `model*.safetensors`: no reader of models takes it for one.
const FILE: &str = "latent.safetensors";

/// Writes the weights that are trained into the existing `directory`, if `model` rounds them.
///
/// # Errors
/// The file cannot be written.
pub fn save_latent(directory: &Path, model: &Decoder) -> Result<()> {
    if model.quantization.is_none() {
        return Ok(());
    }
    let model = model.clone().with_fake_quantization(None)?;
    let specs = tensors(&model.config);
    let headers = TensorHeader::all(&specs, Precision::F32);
    write_file(&directory.join(FILE), &headers, |i, sink| {
        sink.write(&model.tensor(&specs[i], Precision::F32))
    })
}

/// The model whose latent weights [`save_latent`] wrote into `directory`, onto `device`; it rounds
/// nothing yet.
///
/// # Errors
/// A missing or damaged file, or tensors that do not match `config.json`.
pub fn load_latent(
    directory: &Path,
    device: &burn::tensor::Device,
) -> Result<(ModelConfig, Decoder)> {
    let config = ModelConfig::from_json_file(&directory.join("config.json"))?;
    let mapped = SafetensorsMap::open_file(&directory.join(FILE))?;
    mapped.check(&tensors(&config))?;
    let model = Decoder::build(
        &config,
        &mut CheckpointWeights::new(mapped, Precision::F32),
        device,
    );
    Ok((config, model))
}
