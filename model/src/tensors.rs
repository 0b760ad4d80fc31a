//! Which tensors a model of a given shape has: names and shapes as Hugging Face's
//! checkpoints hold them, and which of the model's parameters each one is.
//!
//! Everything that reads, writes, initialises or counts weights goes by this list.

use std::ops::Range;

use crate::config::ModelConfig;

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
    pub(crate) parts: Vec<(Slot, Range<usize>)>,
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

/// A parameter of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Embedding,
    Norm,
    Head,
    /// A parameter of a layer.
    Layer(usize, Part),
}

/// A parameter of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    InputNorm,
    PostNorm,
    QNorm,
    KNorm,
    Weight(Projection),
    Bias(Projection),
}

/// A linear layer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    /// In the order in which a block builds them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// `[in, out]` in a model of `config`.
    pub(crate) fn dims(self, config: &ModelConfig) -> [usize; 2] {
        let d = config.hidden_size;
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let inner = config.model_type.family().inner_size(config);
        match self {
            Self::Q => [d, q],
            Self::K | Self::V => [d, kv],
            Self::O => [q, d],
            Self::Gate | Self::Up => [d, inner],
            Self::Down => [inner, d],
        }
    }

    /// Whether a model of `config` adds a bias.
    pub(crate) fn has_bias(self, config: &ModelConfig) -> bool {
        let family = config.model_type.family();
        match self {
            Self::Q | Self::K | Self::V => family.qkv_bias(config),
            Self::O => family.o_bias(config),
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }

    /// Its module's name in layer `layer`, such as `model.layers.0.self_attn.q_proj`.
    pub(crate) fn module(self, config: &ModelConfig, layer: usize) -> String {
        let names = config.model_type.family().names();
        let name = match self {
            Self::Q => names.q,
            Self::K => names.k,
            Self::V => names.v,
            Self::O => names.o,
            Self::Gate => names.gate,
            Self::Up => names.up,
            Self::Down => names.down,
        };
        format!("{}.{layer}.{name}", names.layers)
    }
}

/// The tensors of `config`'s model, each once, in the order in which the model is built.
pub fn tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    let family = config.model_type.family();
    let names = family.names();
    let (d, vocabulary) = (config.hidden_size, config.vocab_size);
    let mut list = Vec::new();
    let table = |name: &str, slot| TensorSpec {
        name: format!("{name}.weight"),
        shape: vec![vocabulary, d],
        kind: Kind::Table,
        parts: vec![(slot, 0..vocabulary)],
    };
    let norm = |name: String, size, slot| TensorSpec {
        name: name + ".weight",
        shape: vec![size],
        kind: Kind::Norm,
        parts: vec![(slot, 0..size)],
    };
    list.push(table(names.embedding, Slot::Embedding));
    for layer in 0..config.num_hidden_layers {
        let at = |name: &str| format!("{}.{layer}.{name}", names.layers);
        let slot = |part| Slot::Layer(layer, part);
        list.push(norm(at(names.input_norm), d, slot(Part::InputNorm)));
        let (attention, mlp) = Projection::ALL.split_at(4);
        add_projections(&mut list, config, layer, attention);
        if family.qk_norm() {
            list.push(norm(at(names.q_norm), config.head_dim, slot(Part::QNorm)));
            list.push(norm(at(names.k_norm), config.head_dim, slot(Part::KNorm)));
        }
        list.push(norm(at(names.post_norm), d, slot(Part::PostNorm)));
        add_projections(&mut list, config, layer, mlp);
    }
    list.push(norm(names.norm.to_owned(), d, Slot::Norm));
    if !config.tie_word_embeddings {
        list.push(table(names.head, Slot::Head));
    }
    list
}

/// The name of the head's tensor, which a tied model need not have.
pub(crate) fn head_name(config: &ModelConfig) -> String {
    format!("{}.weight", config.model_type.family().names().head)
}

/// The name of the embedding's tensor.
pub(crate) fn embedding_name(config: &ModelConfig) -> String {
    format!("{}.weight", config.model_type.family().names().embedding)
}

fn add_projections(
    list: &mut Vec<TensorSpec>,
    config: &ModelConfig,
    layer: usize,
    projections: &[Projection],
) {
    for &projection in projections {
        let module = projection.module(config, layer);
        let [input, output] = projection.dims(config);
        let kind = match projection {
            Projection::O | Projection::Down => Kind::Residual,
            _ => Kind::Matrix,
        };
        let mut add = |suffix: &str, part, kind, mut shape: Vec<usize>| {
            let name = format!("{module}.{suffix}");
            let slot = Slot::Layer(layer, part);
            // q, k and v under one name are the rows of one tensor.
            match list.iter_mut().rev().take(4).find(|t| t.name == name) {
                Some(fused) => {
                    let first = fused.shape[0];
                    fused.shape[0] += output;
                    fused.parts.push((slot, first..first + output));
                }
                None => {
                    shape.insert(0, output);
                    list.push(TensorSpec {
                        name,
                        shape,
                        kind,
                        parts: vec![(slot, 0..output)],
                    });
                }
            }
        };
        add("weight", Part::Weight(projection), kind, vec![input]);
        if projection.has_bias(config) {
            add("bias", Part::Bias(projection), Kind::Bias, vec![]);
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
