//! What quantization-aware training rounds, and to which formats.

use burn::tensor::Tensor;
use retort_format::ParamKey;
use retort_ops::{BlockAxis, QuantFormat, fake_quantize};
use serde::{Deserialize, Serialize};

/// `[quantize]` of a recipe: what is rounded to which format, as `retort export --quant` of the same
/// name rounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeQuantization {
    /// The weights of linear layers.
    pub weights: WeightFormat,
    /// How a block of 4-bit weights gets its scale.
    #[serde(default)]
    pub scales: Scales,
    /// The inputs of linear layers and of the head.
    #[serde(default)]
    pub activations: ActivationFormat,
    /// The keys and values that attention sees.
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
    /// The largest number lies at −8, 7 or 6, whichever has the least squared error. A student that
    /// starts from a calibrated file keeps the file's blocks, but for the rare block that uses fewer
    /// levels than it has.
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
    /// 8 bits, as the engine holds them with `--kv-cache q8`: in f16 near the query, and further back
    /// in blocks of 32 positions with a scale and a least number for each channel of the keys, and
    /// for 32 channels of a value.
    #[serde(rename = "q8")]
    Q8,
}

/// What a linear layer rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinearRounding {
    /// Its weight, in blocks along the inputs.
    pub weight: Option<QuantFormat>,
    /// Its input, in blocks along the width.
    pub input: Option<QuantFormat>,
}

impl LinearRounding {
    /// `weight` `[in, out]` as it is used.
    pub fn weight(self, weight: Tensor<2>) -> Tensor<2> {
        match self.weight {
            Some(format) => fake_quantize(weight, format, BlockAxis::Down),
            None => weight,
        }
    }

    /// `x` `[.., in]` as it is used.
    pub fn input<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self.input {
            Some(format) => fake_quantize(x, format, BlockAxis::Last),
            None => x,
        }
    }
}

impl FakeQuantization {
    /// What the linear layer of `key` rounds.
    pub(crate) fn of(self, key: ParamKey) -> LinearRounding {
        let weight = match (key, self.weights, self.scales) {
            (ParamKey::Head, ..) | (_, WeightFormat::Q8_0, _) => QuantFormat::Q8_0,
            (_, WeightFormat::Q4_0, Scales::Largest) => QuantFormat::Q4_0,
            (_, WeightFormat::Q4_0, Scales::Nearest) => QuantFormat::Q4_0Nearest,
        };
        LinearRounding {
            weight: Some(weight),
            input: (self.activations == ActivationFormat::Int8).then_some(QuantFormat::Int8),
        }
    }

    /// A table of tokens, such as the embedding, as it is used: `x` `[.., D]`.
    pub(crate) fn table<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        fake_quantize(x, QuantFormat::Q8_0, BlockAxis::Last)
    }
}
