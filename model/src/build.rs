//! From weights to a [`Decoder`] and back: which tensor becomes which parameter.

use std::ops::Range;

use burn::module::{Param, ParamId};
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{DType, Device, Tensor, TensorData};
use retort_format::{LayerLinear, ModelConfig, ParamKey, Precision, TensorSpec, tensors};

use crate::attention::Attention;
use crate::block::Block;
use crate::decoder::Decoder;
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::quantization_config::LinearRounding;
use crate::tensor_data::encode;
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
    fn param<const N: usize>(&mut self, key: ParamKey, transpose: bool) -> Param<Tensor<N>> {
        let (spec, rows) = self.find(key);
        let data = self.weights.take(&spec, rows, transpose);
        let dtype = data.dtype();
        let tensor = Tensor::<N>::from_data(data, (self.device, dtype));
        // Half precision is for weights that are only read.
        let trained = self.device.is_autodiff() && dtype == DType::F32;
        self.next_id += 1;
        let id = ParamId::from(self.next_id);
        Param::initialized(id, tensor.set_require_grad(trained))
    }

    /// The tensor that holds `key`, and its rows. The list has the order of building, so
    /// the search begins a little before where the last one ended (fused tensors are asked
    /// for more than once).
    fn find(&mut self, key: ParamKey) -> (TensorSpec, Range<usize>) {
        let from = self.at.saturating_sub(2);
        let found = self.specs[from..].iter().enumerate().find_map(|(i, spec)| {
            let (_, rows) = spec.parts.iter().find(|(k, _)| *k == key)?;
            Some((from + i, rows.clone()))
        });
        let (at, rows) = found.expect("the list of tensors has every parameter in order");
        self.at = at;
        (self.specs[at].clone(), rows)
    }

    fn norm(&mut self, key: ParamKey) -> RmsNorm {
        RmsNorm {
            gamma: self.param(key, false),
            epsilon: self.config.rms_norm_eps,
        }
    }

    fn linear(&mut self, layer: usize, linear: LayerLinear) -> Linear {
        Linear {
            // Laid out as [in, out] once here rather than strided over in every product.
            weight: self.param(ParamKey::Weight(layer, linear), true),
            bias: linear
                .has_bias(self.config)
                .then(|| self.param(ParamKey::Bias(layer, linear), false)),
            adapter: None,
            rounding: LinearRounding::default(),
        }
    }

    fn block(&mut self, layer: usize) -> Block {
        let qk_norm = self.config.model_type.qk_norm();
        Block {
            input_layernorm: self.norm(ParamKey::InputNorm(layer)),
            self_attn: Attention {
                q_proj: self.linear(layer, LayerLinear::Q),
                k_proj: self.linear(layer, LayerLinear::K),
                v_proj: self.linear(layer, LayerLinear::V),
                o_proj: self.linear(layer, LayerLinear::O),
                q_norm: qk_norm.then(|| self.norm(ParamKey::QNorm(layer))),
                k_norm: qk_norm.then(|| self.norm(ParamKey::KNorm(layer))),
                heads: self.config.num_attention_heads,
                kv_heads: self.config.num_key_value_heads,
                head_dim: self.config.head_dim,
            },
            post_attention_layernorm: self.norm(ParamKey::PostNorm(layer)),
            mlp: Mlp {
                gate_proj: self.linear(layer, LayerLinear::Gate),
                up_proj: self.linear(layer, LayerLinear::Up),
                down_proj: self.linear(layer, LayerLinear::Down),
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
                weight: b.param(ParamKey::Embedding, false),
            },
            layers: (0..config.num_hidden_layers).map(|i| b.block(i)).collect(),
            norm: b.norm(ParamKey::FinalNorm),
            lm_head: (!config.tie_word_embeddings).then(|| Linear {
                weight: b.param(ParamKey::Head, true),
                bias: None,
                adapter: None,
                rounding: LinearRounding::default(),
            }),
            projections: Vec::new(),
            config: config.clone(),
            compute: Precision::F32,
            quantization: None,
        }
    }

    /// The bytes of a tensor in Hugging Face's layout, row-major and little-endian as `precision`,
    /// adapters merged.
    ///
    /// # Panics
    /// `spec` is none of [`tensors`] of the model's config.
    pub fn tensor(&self, spec: &TensorSpec, precision: Precision) -> Vec<u8> {
        let mut parts = spec.parts.iter().map(|(key, _)| {
            let (data, transpose) = self.parameter(*key);
            encode(&data, precision, transpose)
        });
        let first = parts.next().expect("a tensor holds a parameter");
        parts.fold(first, |mut bytes, part| {
            bytes.extend(part);
            bytes
        })
    }

    /// A parameter's values, and whether they are transposed against Hugging Face's layout.
    fn parameter(&self, key: ParamKey) -> (TensorData, bool) {
        match key {
            ParamKey::Embedding => (self.table().into_data(), false),
            ParamKey::Head | ParamKey::Weight(..) => {
                (self.linear(key).merged_weight().into_data(), true)
            }
            ParamKey::Bias(layer, linear) => {
                let bias = some(&self.layers[layer].linear(linear).bias);
                (bias.val().into_data(), false)
            }
            norm => (self.rms_norm(norm).gamma.val().into_data(), false),
        }
    }

    /// The id of a parameter.
    pub(crate) fn id(&self, key: ParamKey) -> ParamId {
        match key {
            ParamKey::Embedding => self.embed_tokens.weight.id,
            ParamKey::Head | ParamKey::Weight(..) => self.linear(key).weight.id,
            ParamKey::Bias(layer, linear) => some(&self.layers[layer].linear(linear).bias).id,
            norm => self.rms_norm(norm).gamma.id,
        }
    }

    /// The norm whose weights are `key`.
    ///
    /// # Panics
    /// `key` is of no norm, or of one that the model does not have.
    fn rms_norm(&self, key: ParamKey) -> &RmsNorm {
        match key {
            ParamKey::FinalNorm => &self.norm,
            ParamKey::InputNorm(layer) => &self.layers[layer].input_layernorm,
            ParamKey::PostNorm(layer) => &self.layers[layer].post_attention_layernorm,
            ParamKey::QNorm(layer) => some(&self.layers[layer].self_attn.q_norm),
            ParamKey::KNorm(layer) => some(&self.layers[layer].self_attn.k_norm),
            other => panic!("{other:?} is not of a norm"),
        }
    }

    /// The linear layer whose matrix is `key`.
    ///
    /// # Panics
    /// `key` is no such matrix, or the head of a model that has none of its own.
    pub(crate) fn linear(&self, key: ParamKey) -> &Linear {
        match key {
            ParamKey::Weight(layer, linear) => self.layers[layer].linear(linear),
            ParamKey::Head => some(&self.lm_head),
            other => panic!("{other:?} is not the matrix of a linear layer"),
        }
    }

    /// The same to change.
    ///
    /// # Panics
    /// As [`linear`](Self::linear).
    pub(crate) fn linear_mut(&mut self, key: ParamKey) -> &mut Linear {
        match key {
            ParamKey::Weight(layer, linear) => self.layers[layer].linear_mut(linear),
            ParamKey::Head => self.lm_head.as_mut().expect("the config is not tied"),
            other => panic!("{other:?} is not the matrix of a linear layer"),
        }
    }
}

/// A part that the config says the model has.
fn some<T>(part: &Option<T>) -> &T {
    part.as_ref().expect("the config has it")
}

impl Block {
    /// One of the linear layers.
    pub(crate) fn linear(&self, linear: LayerLinear) -> &Linear {
        match linear {
            LayerLinear::Q => &self.self_attn.q_proj,
            LayerLinear::K => &self.self_attn.k_proj,
            LayerLinear::V => &self.self_attn.v_proj,
            LayerLinear::O => &self.self_attn.o_proj,
            LayerLinear::Gate => &self.mlp.gate_proj,
            LayerLinear::Up => &self.mlp.up_proj,
            LayerLinear::Down => &self.mlp.down_proj,
        }
    }

    /// The same to change.
    pub(crate) fn linear_mut(&mut self, linear: LayerLinear) -> &mut Linear {
        match linear {
            LayerLinear::Q => &mut self.self_attn.q_proj,
            LayerLinear::K => &mut self.self_attn.k_proj,
            LayerLinear::V => &mut self.self_attn.v_proj,
            LayerLinear::O => &mut self.self_attn.o_proj,
            LayerLinear::Gate => &mut self.mlp.gate_proj,
            LayerLinear::Up => &mut self.mlp.up_proj,
            LayerLinear::Down => &mut self.mlp.down_proj,
        }
    }
}
