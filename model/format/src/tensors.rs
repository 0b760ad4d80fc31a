//! Which tensors a model of a given shape has: names and shapes as Hugging Face's checkpoints hold
//! them, and which of the model's parameters each one is.
//!
//! Everything that reads, writes, initialises, counts or converts weights goes by this list; as GGUF
//! files have it, in `gguf/names.rs`.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::param_key::{LayerLinear, ParamKey};

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Hugging Face's name.
    pub name: String,
    /// Hugging Face's shape; a matrix is `[out, in]`.
    pub shape: Vec<usize>,
    /// What it is to the model.
    pub kind: Kind,
    /// The parameters it holds, with their rows; more than one where q, k and v are fused.
    pub parts: Vec<(ParamKey, Range<usize>)>,
}

impl TensorSpec {
    /// The number of weights.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a tensor is to the model, which decides how it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table with a row for each token id, or the head over them.
    Table,
    /// A projection.
    Matrix,
    /// A projection that writes into the residual stream.
    Residual,
    /// What is added to a projection.
    Bias,
    /// A norm's gain.
    Norm,
}

/// The tensors of `config`'s model, each once, in the order in which the model is built.
pub fn tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    let (d, vocabulary) = (config.hidden_size, config.vocab_size);
    let mut list = List {
        config,
        specs: Vec::new(),
    };
    let (attention, mlp) = LayerLinear::ALL.split_at(4);
    list.add(ParamKey::Embedding, Kind::Table, vocabulary, Some(d));
    for layer in 0..config.num_hidden_layers {
        list.norm(ParamKey::InputNorm(layer), d);
        list.linears(layer, attention);
        if config.model_type.qk_norm() {
            list.norm(ParamKey::QNorm(layer), config.head_dim);
            list.norm(ParamKey::KNorm(layer), config.head_dim);
        }
        list.norm(ParamKey::PostNorm(layer), d);
        list.linears(layer, mlp);
    }
    list.norm(ParamKey::FinalNorm, d);
    if !config.tie_word_embeddings {
        list.add(ParamKey::Head, Kind::Table, vocabulary, Some(d));
    }
    list.specs
}

impl ModelConfig {
    /// The number of parameters, each counted once.
    pub fn parameters(&self) -> u64 {
        tensors(self)
            .iter()
            .map(|spec| spec.elements() as u64)
            .sum()
    }

    /// The number of parameters without the embedding and the head.
    pub fn parameters_without_embeddings(&self) -> u64 {
        let list = tensors(self);
        let body = list.iter().filter(|spec| spec.kind != Kind::Table);
        body.map(|spec| spec.elements() as u64).sum()
    }
}

struct List<'c> {
    config: &'c ModelConfig,
    specs: Vec<TensorSpec>,
}

impl List<'_> {
    /// Adds a parameter: its own tensor, or more rows of the fused one that holds q or k.
    fn add(&mut self, key: ParamKey, kind: Kind, rows: usize, columns: Option<usize>) {
        let name = key.tensor(self.config);
        match self.specs.iter_mut().rev().take(4).find(|t| t.name == name) {
            Some(fused) => {
                let first = fused.shape[0];
                fused.shape[0] += rows;
                fused.parts.push((key, first..first + rows));
            }
            None => self.specs.push(TensorSpec {
                name,
                shape: [rows].into_iter().chain(columns).collect(),
                kind,
                parts: vec![(key, 0..rows)],
            }),
        }
    }

    fn norm(&mut self, key: ParamKey, size: usize) {
        self.add(key, Kind::Norm, size, None);
    }

    fn linears(&mut self, layer: usize, linears: &[LayerLinear]) {
        for &linear in linears {
            let [input, output] = linear.dims(self.config);
            let kind = match linear {
                LayerLinear::O | LayerLinear::Down => Kind::Residual,
                _ => Kind::Matrix,
            };
            self.add(ParamKey::Weight(layer, linear), kind, output, Some(input));
            if linear.has_bias(self.config) {
                self.add(ParamKey::Bias(layer, linear), Kind::Bias, output, None);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A tiny model of two layers.
    pub(crate) fn config(model_type: &str, tied: bool) -> ModelConfig {
        let v = json!({
            "model_type": model_type, "vocab_size": 40, "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "tie_word_embeddings": tied,
        });
        serde_json::from_value::<ModelConfig>(v)
            .unwrap()
            .resolve()
            .unwrap()
    }

    #[test]
    fn biases_count_as_parameters() {
        let plain = config("llama", true);
        let mut biased = plain.clone();
        (biased.attention_bias, biased.mlp_bias) = (true, true);
        let block = 4 * 16 + 2 * 24 + 16;
        assert_eq!(biased.parameters(), plain.parameters() + 2 * block);
        let table = 40 * 16;
        assert_eq!(
            config("llama", false).parameters(),
            plain.parameters() + table
        );
        let body = biased.parameters() - table;
        assert_eq!(biased.parameters_without_embeddings(), body);
    }

    #[test]
    fn the_first_qwens_tensors_are_named_as_published() {
        let mut names: Vec<String> = tensors(&config("qwen", false))
            .into_iter()
            .map(|t| format!("{} {:?}", t.name.replace(".1.", ".0."), t.shape))
            .collect();
        names.sort();
        names.dedup();
        let expected = [
            "lm_head.weight [40, 16]",
            "transformer.h.0.attn.c_attn.bias [48]",
            "transformer.h.0.attn.c_attn.weight [48, 16]",
            "transformer.h.0.attn.c_proj.weight [16, 16]",
            "transformer.h.0.ln_1.weight [16]",
            "transformer.h.0.ln_2.weight [16]",
            "transformer.h.0.mlp.c_proj.weight [16, 12]",
            "transformer.h.0.mlp.w1.weight [12, 16]",
            "transformer.h.0.mlp.w2.weight [12, 16]",
            "transformer.ln_f.weight [16]",
            "transformer.wte.weight [40, 16]",
        ];
        assert_eq!(names, expected);
    }
}
