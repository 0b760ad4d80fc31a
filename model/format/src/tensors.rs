//! Which tensors a model of a given shape has: names and shapes as Hugging Face's checkpoints and
//! as GGUF files hold them, and which of the model's parameters each one is.
//!
//! Everything that reads, writes, initialises, counts or converts weights goes by this list. GGUF's
//! names and order of rows follow llama.cpp's `convert_hf_to_gguf.py`.

use std::ops::Range;

use crate::architecture::RopePairs;
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

    /// Its shape in a GGUF file, contiguous dimension first.
    pub fn gguf_shape(&self) -> Vec<u64> {
        self.shape.iter().rev().map(|&n| n as u64).collect()
    }

    /// Its name in a GGUF file of a model of `config`.
    ///
    /// # Panics
    /// It is not of [`tensors`]`(config)`.
    pub fn gguf_name(&self, config: &ModelConfig) -> String {
        self.parts[0].0.gguf_tensor(config)
    }

    /// For q and k of architectures with adjacent rotary pairs, the rows of a head: a GGUF file
    /// has its two halves interleaved, a checkpoint one after the other.
    pub fn interleaved_rows(&self, config: &ModelConfig) -> Option<usize> {
        let rotated = matches!(
            self.parts.as_slice(),
            [(
                ParamKey::Weight(_, LayerLinear::Q | LayerLinear::K)
                    | ParamKey::Bias(_, LayerLinear::Q | LayerLinear::K),
                _
            )]
        );
        let adjacent = config.model_type.rope_pairs() == RopePairs::Adjacent;
        (rotated && adjacent).then_some(config.head_dim)
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

/// The same tensors in the order of a GGUF file: of a layer the norms come last.
pub fn gguf_tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    let mut list = tensors(config);
    let place = |spec: &TensorSpec| {
        let (key, _) = spec.parts[0];
        let among_norms = match key {
            ParamKey::InputNorm(_) => 1,
            ParamKey::PostNorm(_) => 2,
            ParamKey::QNorm(_) | ParamKey::KNorm(_) => 3,
            _ => 0,
        };
        let layer = match key {
            ParamKey::Embedding => 0,
            ParamKey::FinalNorm | ParamKey::Head => usize::MAX,
            _ => key.layer().map_or(0, |layer| layer + 1),
        };
        (layer, among_norms)
    };
    list.sort_by_key(place);
    list
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
mod tests {
    use serde_json::json;

    use super::*;

    fn config(model_type: &str, tied: bool) -> ModelConfig {
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
    fn the_tensors_have_the_parameters_that_the_config_counts() {
        for kind in ["llama", "qwen", "qwen2", "qwen3"] {
            for tied in [true, false] {
                for bias in [true, false] {
                    let mut config = config(kind, tied);
                    config.attention_bias = bias && ["llama", "qwen3"].contains(&kind);
                    config.mlp_bias = bias && kind == "llama";
                    let list = tensors(&config);
                    let sum: usize = list.iter().map(TensorSpec::elements).sum();
                    assert_eq!(sum as u64, config.parameters(), "{kind}");
                    let body: usize = list
                        .iter()
                        .filter(|t| t.kind != Kind::Table)
                        .map(TensorSpec::elements)
                        .sum();
                    assert_eq!(
                        body as u64,
                        config.parameters_without_embeddings(),
                        "{kind}"
                    );
                }
            }
        }
    }

    #[test]
    fn gguf_order_is_that_of_llama_cpps_converter() {
        let config = config("qwen3", false);
        let names: Vec<String> = gguf_tensors(&config)
            .iter()
            .map(|spec| spec.gguf_name(&config))
            .filter(|name| !name.starts_with("blk.1."))
            .collect();
        let expected = [
            "token_embd.weight",
            "blk.0.attn_q.weight",
            "blk.0.attn_k.weight",
            "blk.0.attn_v.weight",
            "blk.0.attn_output.weight",
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_up.weight",
            "blk.0.ffn_down.weight",
            "blk.0.attn_norm.weight",
            "blk.0.ffn_norm.weight",
            "blk.0.attn_q_norm.weight",
            "blk.0.attn_k_norm.weight",
            "output_norm.weight",
            "output.weight",
        ];
        assert_eq!(names, expected);
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
