//! Quantization in training: a decoder whose weights, and if asked for the activations that
//! meet them and the keys and values of attention, are put onto the grids of the file it will be exported to before they are used
//! (quantization-aware training: Jacob et al., arXiv 1712.05877).
//!
//! In: a decoder with weights in f32, which stay what is trained ("latent"). Out: a decoder that
//! computes what the exported file computes, with gradients that go straight through the
//! rounding (`ops/grid.rs`). [`save`](crate::save) writes the rounded weights: an export rounds them
//! to themselves. The latent ones are [`save_latent`]'s.

use std::path::Path;

use burn::tensor::{DType, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::decoder::Decoder;
use crate::linear::lookup;
use crate::ops::{self, BLOCK, Grid};
use crate::weights::CheckpointWeights;
use retort_format::ModelConfig;
use retort_format::ParamKey;
use retort_format::Precision;
use retort_format::checkpoint::SafetensorsMap;
use retort_format::checkpoint::{TensorHeader, write_file};
use retort_format::tensors;
use retort_format::{Error, Result};

/// The latent weights' file in a checkpoint. Not `model*.safetensors`: no reader of models takes it
/// for one.
const FILE: &str = "latent.safetensors";

/// What is rounded to what, as `retort export --quant` of the same name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeQuantization {
    /// The weights of linear layers.
    pub weights: WeightFormat,
    /// How a block of 4-bit weights gets its scale.
    #[serde(default)]
    pub scales: Scales,
    /// What goes into them and into the head.
    #[serde(default)]
    pub activations: ActivationFormat,
    /// Keys and values that attention finds.
    #[serde(default)]
    pub kv: KvFormat,
}

/// A format of weights: 32 neighbouring inputs of an output share a scale in f16. The embedding and
/// the head are in Q8_0 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightFormat {
    /// 4 bits.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 8 bits.
    #[serde(rename = "q8_0")]
    Q8_0,
}

/// Scales of blocks of Q4_0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scales {
    /// The largest number lies at −8, as llama.cpp rounds.
    #[default]
    Largest,
    /// The largest number lies at −8, 7 or 6, whichever has the least squared error. A student that starts as a
    /// calibrated file, whose scales were searched, starts as that file but for the rare block that uses less than its levels.
    Nearest,
}

/// A format of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivationFormat {
    /// As they are.
    #[default]
    #[serde(rename = "float32")]
    Float32,
    /// 8 bits, 32 neighbours sharing a scale in f32, as the engine's products take them.
    #[serde(rename = "int8")]
    Int8,
}

/// A format of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvFormat {
    /// As they are.
    #[default]
    #[serde(rename = "float32")]
    Float32,
    /// 8 bits, as the engine holds them with `--kv-cache q8`: in f16 near the query, and further back in
    /// blocks of 32 positions with a scale and a least number for each channel of the keys, and for 32
    /// channels of a value.
    #[serde(rename = "q8")]
    Q8,
}

/// What a linear layer rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rounding {
    /// Its weight, in blocks along the inputs.
    pub weight: Option<Grid>,
    /// What it is given, in blocks along the width.
    pub input: Option<Grid>,
}

impl Rounding {
    /// `weight` `[in, out]` as it is used.
    pub fn weight(self, weight: Tensor<2>) -> Tensor<2> {
        match self.weight {
            Some(grid) => rounded(weight, grid, true),
            None => weight,
        }
    }

    /// `x` `[.., in]` as it is used.
    pub fn input<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self.input {
            Some(grid) => rounded(x, grid, false),
            None => x,
        }
    }
}

/// `x` on `grid`: in blocks along its rows (a matrix), `down` its columns, or else along its last
/// dimension.
fn rounded<const D: usize>(x: Tensor<D>, grid: Grid, down: bool) -> Tensor<D> {
    let shape = x.dims();
    let columns = if down { shape[D - 1] } else { 1 };
    if ops::fused(&x) {
        return ops::on_grid(x, grid, columns);
    }
    let (n, dtype) = (shape.iter().product::<usize>(), x.dtype());
    let blocks = x
        .cast(DType::F32)
        .reshape([n / (BLOCK * columns), BLOCK, columns]);
    ops::on_grid_composed(blocks, grid)
        .reshape(shape)
        .cast(dtype)
}

impl Decoder {
    /// The same weights, used as `quantization` rounds them; as they are where it is none.
    ///
    /// # Errors
    /// [`Error::Config`]: a width that blocks of 32 do not divide.
    ///
    /// # Panics
    /// A model with adapters.
    pub fn with_fake_quantization(
        mut self,
        quantization: Option<FakeQuantization>,
    ) -> Result<Self> {
        let config = self.config.clone();
        for site in ParamKey::linears(&config) {
            let [input, _] = site.dims(&config);
            if quantization.is_some() && !input.is_multiple_of(BLOCK) {
                return Err(Error::Config {
                    field: "hidden_size",
                    reason: format!(
                        "{} has {input} inputs, and quantized weights come in blocks of {BLOCK}: make the sizes \
                         multiples of {BLOCK}, or leave out [quantize]",
                        site.module(&config)
                    ),
                });
            }
            let linear = self.linear_mut(site);
            assert!(
                quantization.is_none() || linear.adapter.is_none(),
                "adapters are merged before weights are rounded"
            );
            linear.rounding = quantization.map_or(Rounding::default(), |q| q.of(site));
        }
        self.quantization = quantization;
        Ok(self)
    }

    /// The rows `ids` `[B, T]` of the embedding, as they are used: `[B, T, D]` in f32.
    pub(crate) fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let rows = lookup(&self.embed_tokens.weight, ids);
        match self.quantization {
            Some(_) => rounded(rows, Grid::Q8_0, false),
            None => rows,
        }
    }

    /// The embedding `[V, D]`, as it is used.
    pub(crate) fn table(&self) -> Tensor<2> {
        let table = self.embed_tokens.weight.val();
        match self.quantization {
            Some(_) => rounded(table, Grid::Q8_0, false),
            None => table,
        }
    }

    /// What the head is given of `hidden`.
    pub(crate) fn head_input<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let rounding = self
            .quantization
            .map_or(Rounding::default(), |q| q.of(ParamKey::Head));
        rounding.input(hidden)
    }
}

impl FakeQuantization {
    fn of(self, site: ParamKey) -> Rounding {
        let weight = match (site, self.weights, self.scales) {
            (ParamKey::Weight(..), WeightFormat::Q4_0, Scales::Largest) => Grid::Q4_0,
            (ParamKey::Weight(..), WeightFormat::Q4_0, Scales::Nearest) => Grid::Q4_0Nearest,
            _ => Grid::Q8_0,
        };
        Rounding {
            weight: Some(weight),
            input: (self.activations == ActivationFormat::Int8).then_some(Grid::Int8),
        }
    }
}

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
