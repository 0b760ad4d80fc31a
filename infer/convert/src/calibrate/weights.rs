//! One layer's weights in f32: norms and biases, and four groups of matrices that share their input.

use std::ops::Range;

use crate::source::{SourceTensor, WeightSource};
use retort_engine::decoder::layer::{LayerVectors, LinearGroup};
use retort_format::{LayerLinear, ModelConfig, ParamKey, Result};

/// A tensor's name and its blocks.
pub type Encoded = (String, Vec<u8>);

/// The matrices of a [`LinearGroup`].
#[derive(Clone)]
pub(super) struct GroupWeights {
    /// Name of each tensor and its rows, one after the other.
    pub(super) tensors: Vec<(String, usize)>,
    /// The rows of each matrix, several of which may be one tensor.
    linears: Vec<(LayerLinear, Range<usize>)>,
    /// The length of the input.
    pub(super) columns: usize,
    /// [rows of all matrices, columns].
    pub(super) weights: Vec<f32>,
}

impl GroupWeights {
    fn read(
        source: &dyn WeightSource,
        model: &ModelConfig,
        layer: usize,
        group: LinearGroup,
    ) -> Result<Self> {
        let mut out = Self {
            tensors: Vec::new(),
            linears: Vec::new(),
            columns: group.input_size(source.config()),
            weights: Vec::new(),
        };
        let mut first = 0;
        for &linear in group.linears() {
            let end = first + linear.dims(model)[1];
            out.linears.push((linear, first..end));
            first = end;
            let name = ParamKey::Weight(layer, linear).gguf_tensor(model);
            if out.tensors.last().is_some_and(|(last, _)| *last == name) {
                continue;
            }
            out.weights.extend(source.whole(&name)?);
            let tensor = source.find(&name).map(|at| &source.tensors()[at]);
            let (_, rows) = tensor.map_or((0, 0), SourceTensor::shape);
            out.tensors.push((name, rows));
        }
        Ok(out)
    }

    /// The rows of one matrix.
    pub(super) fn rows(&self, linear: LayerLinear) -> Range<usize> {
        let found = self.linears.iter().find(|(other, _)| *other == linear);
        found.map_or(0..0, |(_, rows)| rows.clone())
    }

    /// Where the weights of one matrix are, [rows, columns].
    pub(super) fn matrix(&self, linear: LayerLinear) -> Range<usize> {
        let rows = self.rows(linear);
        rows.start * self.columns..rows.end * self.columns
    }
}

/// One layer's weights.
#[derive(Clone)]
pub(super) struct LayerWeights {
    pub(super) vectors: LayerVectors,
    /// In the order of [`LinearGroup::ALL`].
    groups: [GroupWeights; 4],
}

impl LayerWeights {
    /// Reads layer `index`.
    pub(super) fn read(source: &dyn WeightSource, index: usize) -> Result<Self> {
        let model = source.model_config();
        let read = |group| GroupWeights::read(source, &model, index, group);
        let [qkv, o, gate_up, down] = LinearGroup::ALL;
        let groups = [read(qkv)?, read(o)?, read(gate_up)?, read(down)?];
        let query_bias = ParamKey::Bias(index, LayerLinear::Q).gguf_tensor(&model);
        let biased = source.find(&query_bias).is_some();
        let vectors = LayerVectors::read(model.model_type, index, biased, |key| {
            let values = source.whole(&key.gguf_tensor(&model))?;
            Ok(match key {
                ParamKey::Bias(_, linear) if model.model_type.fused_qkv() => {
                    values[groups[0].rows(linear)].to_vec()
                }
                _ => values,
            })
        })?;
        Ok(Self { vectors, groups })
    }

    /// The matrices of `group`.
    pub(super) fn group(&self, group: LinearGroup) -> &GroupWeights {
        &self.groups[group as usize]
    }

    /// The matrices of `group`, to be changed.
    pub(super) fn group_mut(&mut self, group: LinearGroup) -> &mut GroupWeights {
        &mut self.groups[group as usize]
    }

    /// The norms and biases of layer `index` that calibration may change, by their tensors' names.
    pub(super) fn changed_vectors(
        &self,
        model: &ModelConfig,
        index: usize,
    ) -> Vec<(String, Vec<f32>)> {
        let vectors = changed_vectors(index).into_iter().filter_map(|key| {
            let values = match (key, &self.vectors.qkv_bias) {
                (ParamKey::InputNorm(_), _) => self.vectors.attn_norm.clone(),
                (ParamKey::PostNorm(_), _) => self.vectors.ffn_norm.clone(),
                (_, Some(biases)) if model.model_type.fused_qkv() => biases.concat(),
                (_, Some([_, _, v])) => v.clone(),
                (_, None) => return None,
            };
            Some((key.gguf_tensor(model), values))
        });
        vectors.collect()
    }
}

/// The norms and biases of a layer that calibration may change.
pub(super) fn changed_vectors(layer: usize) -> [ParamKey; 3] {
    [
        ParamKey::InputNorm(layer),
        ParamKey::PostNorm(layer),
        ParamKey::Bias(layer, LayerLinear::V),
    ]
}
