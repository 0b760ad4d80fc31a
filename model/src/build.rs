//! From weights to a [`Decoder`] and back: which tensor becomes which parameter.

use std::ops::Range;

use burn::module::{Param, ParamId};
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::attention::Attention;
use crate::config::ModelConfig;
use crate::decoder::{Block, Decoder};
use crate::fake_quantization::Rounding;
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::precision::{Precision, encode};
use crate::tensors::{Part, Projection, Slot, TensorSpec, tensors};
use crate::weights::Weights;

/// Builds parameters in one fixed order, numbering them, so that optimizer states, which
/// are keyed by these ids, mean the same parameter in every process.
struct Builder<'a> {
    config: &'a ModelConfig,
    specs: Vec<TensorSpec>,
    at: usize,
    weights: &'a mut dyn Weights,
    device: &'a Device,
    next_id: u64,
}

impl Builder<'_> {
    fn param<const N: usize>(&mut self, slot: Slot, transpose: bool) -> Param<Tensor<N>> {
        let (spec, rows) = self.find(slot);
        let data = self.weights.take(&spec, rows, transpose);
        let dtype = data.dtype();
        let tensor = Tensor::<N>::from_data(data, (self.device, dtype));
        // Half precision is for weights that are only read.
        let trained = self.device.is_autodiff() && dtype == DType::F32;
        self.next_id += 1;
        let id = ParamId::from(self.next_id);
        Param::initialized(id, tensor.set_require_grad(trained))
    }

    /// The tensor that holds `slot`, and its rows. The list has the order of building, so
    /// the search begins a little before where the last one ended (fused tensors are asked
    /// for more than once).
    fn find(&mut self, slot: Slot) -> (TensorSpec, Range<usize>) {
        let from = self.at.saturating_sub(2);
        let found = self.specs[from..].iter().enumerate().find_map(|(i, spec)| {
            let (_, rows) = spec.parts.iter().find(|(s, _)| *s == slot)?;
            Some((from + i, rows.clone()))
        });
        let (at, rows) = found.expect("the list of tensors has every parameter in order");
        self.at = at;
        (self.specs[at].clone(), rows)
    }

    fn norm(&mut self, slot: Slot) -> RmsNorm {
        RmsNorm {
            gamma: self.param(slot, false),
            epsilon: self.config.rms_norm_eps,
        }
    }

    fn linear(&mut self, layer: usize, projection: Projection) -> Linear {
        let slot = |part| Slot::Layer(layer, part);
        Linear {
            // Laid out as [in, out] once here rather than strided over in every product.
            weight: self.param(slot(Part::Weight(projection)), true),
            bias: projection
                .has_bias(self.config)
                .then(|| self.param(slot(Part::Bias(projection)), false)),
            adapter: None,
            rounding: Rounding::default(),
        }
    }

    fn block(&mut self, layer: usize) -> Block {
        let slot = |part| Slot::Layer(layer, part);
        let qk_norm = self.config.model_type.family().qk_norm();
        Block {
            input_layernorm: self.norm(slot(Part::InputNorm)),
            self_attn: Attention {
                q_proj: self.linear(layer, Projection::Q),
                k_proj: self.linear(layer, Projection::K),
                v_proj: self.linear(layer, Projection::V),
                o_proj: self.linear(layer, Projection::O),
                q_norm: qk_norm.then(|| self.norm(slot(Part::QNorm))),
                k_norm: qk_norm.then(|| self.norm(slot(Part::KNorm))),
                heads: self.config.num_attention_heads,
                kv_heads: self.config.num_key_value_heads,
                head_dim: self.config.head_dim,
            },
            post_attention_layernorm: self.norm(slot(Part::PostNorm)),
            mlp: Mlp {
                gate_proj: self.linear(layer, Projection::Gate),
                up_proj: self.linear(layer, Projection::Up),
                down_proj: self.linear(layer, Projection::Down),
            },
        }
    }
}

impl Decoder {
    /// Builds the decoder on `device` with tensors from `weights`.
    ///
    /// `config` must be resolved ([`ModelConfig::resolve`]).
    pub fn build(config: &ModelConfig, weights: &mut dyn Weights, device: &Device) -> Self {
        let mut b = Builder {
            config,
            specs: tensors(config),
            at: 0,
            weights,
            device,
            next_id: 0,
        };
        Self {
            embed_tokens: Embedding {
                weight: b.param(Slot::Embedding, false),
            },
            layers: (0..config.num_hidden_layers).map(|i| b.block(i)).collect(),
            norm: b.norm(Slot::Norm),
            lm_head: (!config.tie_word_embeddings).then(|| Linear {
                weight: b.param(Slot::Head, true),
                bias: None,
                adapter: None,
                rounding: Rounding::default(),
            }),
            beside: Vec::new(),
            config: config.clone(),
            compute: Precision::F32,
            quantization: None,
        }
    }

    /// Calls `f` with every tensor in Hugging Face's layout, row-major and little-endian as
    /// `precision`, adapters merged. One tensor exists at a time.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn for_each_tensor<Err>(
        &self,
        precision: Precision,
        mut f: impl FnMut(&TensorSpec, Vec<u8>) -> Result<(), Err>,
    ) -> Result<(), Err> {
        for spec in tensors(&self.config) {
            let bytes = self.tensor(&spec, precision);
            f(&spec, bytes)?;
        }
        Ok(())
    }

    /// The bytes of one tensor, as [`for_each_tensor`](Self::for_each_tensor) gives them.
    pub(crate) fn tensor(&self, spec: &TensorSpec, precision: Precision) -> Vec<u8> {
        let mut parts = spec.parts.iter().map(|(slot, _)| {
            let (data, transpose) = self.parameter(*slot);
            encode(&data, precision, transpose)
        });
        let first = parts.next().expect("a tensor holds a parameter");
        parts.fold(first, |mut bytes, part| {
            bytes.extend(part);
            bytes
        })
    }

    /// A parameter's values, and whether they are transposed against Hugging Face's layout.
    fn parameter(&self, slot: Slot) -> (TensorData, bool) {
        let norm = |norm: &RmsNorm| (norm.gamma.val().into_data(), false);
        let (layer, part) = match slot {
            Slot::Embedding => return (self.table().into_data(), false),
            Slot::Norm => return norm(&self.norm),
            Slot::Head => {
                let head = self.lm_head.as_ref().expect("the config is not tied");
                return (head.merged_weight().into_data(), true);
            }
            Slot::Layer(layer, part) => (&self.layers[layer], part),
        };
        let attention = &layer.self_attn;
        match part {
            Part::InputNorm => norm(&layer.input_layernorm),
            Part::PostNorm => norm(&layer.post_attention_layernorm),
            Part::QNorm => norm(attention.q_norm.as_ref().expect("the architecture has it")),
            Part::KNorm => norm(attention.k_norm.as_ref().expect("the architecture has it")),
            Part::Weight(p) => (layer.linear(p).merged_weight().into_data(), true),
            Part::Bias(p) => {
                let bias = layer.linear(p).bias.as_ref();
                let bias = bias.expect("the config has it");
                (bias.val().into_data(), false)
            }
        }
    }
}

impl Block {
    /// One of the linear layers.
    pub(crate) fn linear(&self, projection: Projection) -> &Linear {
        match projection {
            Projection::Q => &self.self_attn.q_proj,
            Projection::K => &self.self_attn.k_proj,
            Projection::V => &self.self_attn.v_proj,
            Projection::O => &self.self_attn.o_proj,
            Projection::Gate => &self.mlp.gate_proj,
            Projection::Up => &self.mlp.up_proj,
            Projection::Down => &self.mlp.down_proj,
        }
    }

    /// The same to change.
    pub(crate) fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        match projection {
            Projection::Q => &mut self.self_attn.q_proj,
            Projection::K => &mut self.self_attn.k_proj,
            Projection::V => &mut self.self_attn.v_proj,
            Projection::O => &mut self.self_attn.o_proj,
            Projection::Gate => &mut self.mlp.gate_proj,
            Projection::Up => &mut self.mlp.up_proj,
            Projection::Down => &mut self.mlp.down_proj,
        }
    }
}
