//! Auxiliary parameters of a loss: projections of a model's states onto those of a wider teacher,
//! trained with the model and no part of it.
//!
//! In: shapes `[in, out]`. Out: a decoder whose optimizer, gradients and training checkpoints
//! have them; what it computes and what [`save`](crate::save) writes do not.

use std::path::Path;

use burn::module::{Param, ParamId};
use burn::tensor::{DType, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use retort_format::checkpoint::{SafetensorsMap, TensorHeader, write_file};
use retort_format::{Kind, Precision, Result, TensorSpec};
use retort_ops::product;

use crate::decoder::Decoder;
use crate::tensor_data::encode;

/// Their file in a checkpoint. Not `model*.safetensors`: no reader of models takes it for one.
const FILE: &str = "projections.safetensors";
/// The file's former name; its tensors are `beside.0` and so on.
const OLD_FILE: &str = "beside.safetensors";
/// Their parameters' ids begin here, far above those of any model's own and of adapters.
const FIRST_ID: u64 = 1 << 33;

impl Decoder {
    /// The model with a projection for each of `shapes` `[in, out]`, random from `seed`:
    /// normal with variance 1 / in, so that what comes out is about as large as what goes in.
    pub fn with_projections(self, shapes: &[[usize; 2]], seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Not the numbers that the model itself began with.
        rng.set_stream(1);
        let values = shapes.iter().map(|&[input, output]| {
            let scale = 1.0 / (input as f32).sqrt();
            let mut one = || -> f32 { StandardNormal.sample(&mut rng) };
            (0..input * output).map(|_| scale * one()).collect()
        });
        let values = values.collect();
        self.put_projections(shapes, values)
    }

    fn put_projections(mut self, shapes: &[[usize; 2]], values: Vec<Vec<f32>>) -> Self {
        let device = self.norm.gamma.val().device();
        let params = shapes.iter().zip(values).enumerate();
        let params = params.map(|(i, (&shape, values))| {
            let data = TensorData::new(values, shape);
            let tensor = Tensor::<2>::from_data(data, (&device, DType::F32));
            let id = ParamId::from(FIRST_ID + i as u64);
            Param::initialized(id, tensor.set_require_grad(device.is_autodiff()))
        });
        self.projections = params.collect();
        self
    }

    /// `x` `[B, T, in]` times projection `i`: `[B, T, out]`.
    ///
    /// # Panics
    /// There are not so many, or `x` has another width.
    pub fn project(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        product(x, self.projections[i].val())
    }
}

fn specs(prefix: &str, shapes: &[[usize; 2]]) -> Vec<TensorSpec> {
    let spec = |(i, shape): (usize, &[usize; 2])| TensorSpec {
        name: format!("{prefix}.{i}"),
        shape: shape.to_vec(),
        kind: Kind::Matrix,
        parts: Vec::new(),
    };
    shapes.iter().enumerate().map(spec).collect()
}

/// Writes the projections of `model`, if there are any, into the existing `directory`.
///
/// # Errors
/// The file cannot be written.
pub fn save_projections(directory: &Path, model: &Decoder) -> Result<()> {
    if model.projections.is_empty() {
        return Ok(());
    }
    let shapes: Vec<[usize; 2]> = model.projections.iter().map(|m| m.val().dims()).collect();
    write(&directory.join(FILE), &specs("projection", &shapes), model)
}

fn write(file: &Path, specs: &[TensorSpec], model: &Decoder) -> Result<()> {
    let headers = TensorHeader::all(specs, Precision::F32);
    write_file(file, &headers, |i, sink| {
        let data = model.projections[i].val().into_data();
        sink.write(&encode(&data, Precision::F32, false))
    })
}

/// `model` with the projections of `shapes` that [`save_projections`] wrote into `directory`.
///
/// # Errors
/// A missing or damaged file, or matrices of other shapes.
pub fn load_projections(
    directory: &Path,
    model: Decoder,
    shapes: &[[usize; 2]],
) -> Result<Decoder> {
    let [file, old] = [FILE, OLD_FILE].map(|name| directory.join(name));
    let (file, prefix) = if old.exists() && !file.exists() {
        (old, "beside")
    } else {
        (file, "projection")
    };
    let mapped = SafetensorsMap::open_file(&file)?;
    let specs = specs(prefix, shapes);
    mapped.check(&specs)?;
    let values = specs
        .iter()
        .map(|spec| mapped.rows(spec, 0..spec.shape[0], false));
    let values = values.collect();
    Ok(model.put_projections(shapes, values))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::json;

    use super::*;
    use crate::RandomInit;
    use retort_format::ModelConfig;

    fn values(model: &Decoder, i: usize) -> Vec<f32> {
        let data = model.projections[i].val().into_data();
        data.try_into_vec().unwrap()
    }

    fn model() -> (ModelConfig, Decoder) {
        let config = json!({
            "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 1, "num_attention_heads": 2,
        });
        let config: ModelConfig = serde_json::from_value(config).unwrap();
        let config = config.resolve().unwrap();
        let weights = &mut RandomInit::new(&config, 1);
        let model = Decoder::build(&config, weights, &Device::flex());
        (config, model)
    }

    #[test]
    fn projections_are_saved_beside_the_model_and_never_in_it() {
        let (config, bare) = model();
        let shapes = [[8, 12], [8, 3]];
        let model = bare.clone().with_projections(&shapes, 7);
        assert_eq!(
            values(&model, 0),
            values(&bare.clone().with_projections(&shapes, 7), 0)
        );
        let spread = values(&model, 0).iter().map(|x| x * x).sum::<f32>() / 96.0;
        assert!((0.08..0.18).contains(&spread), "{spread}");

        let dir = tempfile::tempdir().unwrap();
        save_projections(dir.path(), &bare).unwrap();
        assert!(!dir.path().join(FILE).exists());
        crate::save(dir.path(), &config, &model).unwrap();
        let with = std::fs::read(dir.path().join("model.safetensors")).unwrap();
        crate::save(dir.path(), &config, &bare).unwrap();
        let without = std::fs::read(dir.path().join("model.safetensors")).unwrap();
        assert_eq!(with, without);
        save_projections(dir.path(), &model).unwrap();
        let again = load_projections(dir.path(), bare.clone(), &shapes).unwrap();
        for i in 0..2 {
            assert_eq!(values(&again, i), values(&model, i));
            assert_eq!(again.projections[i].id, model.projections[i].id);
        }
        let other = load_projections(dir.path(), bare, &[[8, 12], [8, 4]]);
        let message = other.map(drop).unwrap_err().to_string();
        assert!(message.contains("projection.1"), "{message}");
        // The directory is still a model's.
        assert!(crate::load(dir.path(), &Device::flex()).is_ok());
    }

    #[test]
    fn projections_under_their_former_name_are_read() {
        let shapes = [[8, 12], [8, 3]];
        let (_, bare) = model();
        let model = bare.clone().with_projections(&shapes, 7);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("beside.safetensors");
        write(&file, &specs("beside", &shapes), &model).unwrap();
        let again = load_projections(dir.path(), bare, &shapes).unwrap();
        assert_eq!(values(&again, 1), values(&model, 1));
    }
}
