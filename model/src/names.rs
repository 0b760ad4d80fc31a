//! Parameters by the names that their tensors have in a Hugging Face checkpoint.

use burn::module::ParamId;
use retort_format::{Kind, ModelConfig, ParamKey, TensorSpec, tensors};

use crate::decoder::Decoder;

/// A tensor of the checkpoint, or an adapter's matrix, and what holds it in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedParameters {
    /// Hugging Face's name; an adapter's is PEFT's without its prefix, such as
    /// `model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub name: String,
    /// What it is to the model.
    pub kind: Kind,
    /// Whether it is the table that ids are looked up in.
    pub embedding: bool,
    /// Whether it is of an adapter, which is trained while all else is frozen.
    pub adapter: bool,
    /// The number of weights.
    pub elements: usize,
    /// The parameters; more than one where a file fuses q, k and v.
    pub ids: Vec<ParamId>,
}

/// The parameters that a model of `config` without adapters would have, in the order of a
/// checkpoint's tensors. No model is there: they have no ids.
pub fn named_parameters(config: &ModelConfig) -> Vec<NamedParameters> {
    let tensors = tensors(config).into_iter();
    tensors.map(|spec| named(spec, Vec::new())).collect()
}

fn named(spec: TensorSpec, ids: Vec<ParamId>) -> NamedParameters {
    NamedParameters {
        embedding: spec
            .parts
            .iter()
            .any(|(key, _)| *key == ParamKey::Embedding),
        adapter: false,
        elements: spec.elements(),
        name: spec.name,
        kind: spec.kind,
        ids,
    }
}

impl Decoder {
    /// All parameters by name, in the order of a checkpoint's tensors, adapters last.
    pub fn named_parameters(&self) -> Vec<NamedParameters> {
        let tensors = tensors(&self.config).into_iter().map(|spec| {
            let ids = spec.parts.iter().map(|(key, _)| self.id(*key)).collect();
            named(spec, ids)
        });
        tensors.chain(self.named_adapters()).collect()
    }

    fn named_adapters(&self) -> impl Iterator<Item = NamedParameters> {
        ParamKey::linears(&self.config)
            .filter_map(|site| {
                let adapter = self.linear(site).adapter.as_ref()?;
                Some((site.module(&self.config), adapter))
            })
            .flat_map(|(module, adapter)| {
                [("A", &adapter.a), ("B", &adapter.b)].map(|(letter, matrix)| NamedParameters {
                    name: format!("{module}.lora_{letter}.weight"),
                    kind: Kind::Matrix,
                    embedding: false,
                    adapter: true,
                    elements: matrix.val().shape().num_elements(),
                    ids: vec![matrix.id],
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Device, Tensor};
    use serde_json::json;

    use super::*;
    use crate::{LoraConfig, RandomInit};

    struct Ids(BTreeSet<u64>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id.val());
        }
    }

    #[test]
    fn every_parameter_has_one_name() {
        for kind in ["llama", "qwen", "qwen2", "qwen3"] {
            let config = json!({
                "model_type": kind, "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12,
                "num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": false,
            });
            let config: ModelConfig = serde_json::from_value(config).unwrap();
            let config = config.resolve().unwrap();
            let planned = named_parameters(&config);
            let weights: usize = planned.iter().map(|n| n.elements).sum();
            assert_eq!(weights as u64, config.parameters());
            let mut init = RandomInit::new(&config, 1);
            let mut model = Decoder::build(&config, &mut init, &Device::flex());
            if kind == "llama" {
                let lora = LoraConfig {
                    rank: 2,
                    alpha: 2.0,
                    targets: vec!["q_proj".into()],
                };
                model = model.with_adapters(&lora, 1).unwrap();
            }
            let named = model.named_parameters();
            let mut ids = Ids(BTreeSet::new());
            model.visit(&mut ids);
            let all: Vec<u64> = named
                .iter()
                .flat_map(|n| n.ids.iter().map(ParamId::val))
                .collect();
            assert_eq!(all.len(), ids.0.len(), "{kind}");
            assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), ids.0, "{kind}");
            assert_eq!(named.iter().filter(|n| n.embedding).count(), 1, "{kind}");
            let adapters: Vec<_> = named.iter().filter(|n| n.adapter).collect();
            assert_eq!(adapters.len(), if kind == "llama" { 4 } else { 0 });
            assert!(adapters.iter().all(|n| n.name.contains("q_proj.lora_")));
        }
    }
}
