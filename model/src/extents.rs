//! What the rows and columns of each tensor are counted by: what a tool that cuts a model down
//! must know to cut all tensors alike.
//!
//! In: a [`TensorSpec`]. Out: its layer, and for each parameter in it the rows that it takes
//! with the [`Dimension`] of rows and columns.

use std::ops::Range;

use crate::tensors::{Part, Projection, Slot, TensorSpec};

/// What an axis of a tensor runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Token ids: `vocab_size`.
    Vocabulary,
    /// Channels of the residual stream: `hidden_size`.
    Hidden,
    /// Channels of the query heads, head after head: `num_attention_heads · head_dim`.
    Queries,
    /// Channels of the key or of the value heads: `num_key_value_heads · head_dim`.
    Keys,
    /// Channels within the feed-forward block: [`inner_size`](crate::ModelConfig::inner_size).
    Inner,
    /// Channels of one head: `head_dim`.
    Head,
}

/// One parameter of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its rows in the tensor; all, unless q, k and v are fused.
    pub rows: Range<usize>,
    /// What the rows (or a vector's elements) run over.
    pub output: Dimension,
    /// What a matrix's columns run over.
    pub input: Option<Dimension>,
}

impl TensorSpec {
    /// The layer that it belongs to, if it belongs to one.
    pub fn layer(&self) -> Option<usize> {
        self.parts.iter().find_map(|(slot, _)| match slot {
            Slot::Layer(layer, _) => Some(*layer),
            Slot::Embedding | Slot::Norm | Slot::Head => None,
        })
    }

    /// The parameters in it, in the order of their rows.
    pub fn extents(&self) -> Vec<Extent> {
        let extent = |(slot, rows): &(Slot, Range<usize>)| {
            let (output, input) = dimensions(*slot);
            Extent {
                rows: rows.clone(),
                output,
                input,
            }
        };
        self.parts.iter().map(extent).collect()
    }
}

fn dimensions(slot: Slot) -> (Dimension, Option<Dimension>) {
    use Dimension::{Head, Hidden, Inner, Keys, Queries, Vocabulary};
    let sides = |projection| match projection {
        Projection::Q => (Queries, Hidden),
        Projection::K | Projection::V => (Keys, Hidden),
        Projection::O => (Hidden, Queries),
        Projection::Gate | Projection::Up => (Inner, Hidden),
        Projection::Down => (Hidden, Inner),
    };
    match slot {
        Slot::Embedding | Slot::Head => (Vocabulary, Some(Hidden)),
        Slot::Norm | Slot::Layer(_, Part::InputNorm | Part::PostNorm) => (Hidden, None),
        Slot::Layer(_, Part::QNorm | Part::KNorm) => (Head, None),
        Slot::Layer(_, Part::Weight(projection)) => {
            let (output, input) = sides(projection);
            (output, Some(input))
        }
        Slot::Layer(_, Part::Bias(projection)) => (sides(projection).0, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ModelConfig, tensors};

    #[test]
    fn every_axis_is_as_long_as_what_it_runs_over() {
        for kind in ["llama", "qwen", "qwen2", "qwen3"] {
            // No two sizes are equal, but for the first Qwen, which wants it so.
            let mut config = json!({
                "model_type": kind, "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36,
                "num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": false,
            });
            if kind != "qwen" {
                config["num_key_value_heads"] = 2.into();
                config["head_dim"] = 8.into();
            }
            if kind == "llama" {
                config["attention_bias"] = true.into();
                config["mlp_bias"] = true.into();
            }
            let config: ModelConfig = serde_json::from_value(config).unwrap();
            let config = config.resolve().unwrap();
            let size = |dimension| match dimension {
                Dimension::Vocabulary => config.vocab_size,
                Dimension::Hidden => config.hidden_size,
                Dimension::Queries => config.num_attention_heads * config.head_dim,
                Dimension::Keys => config.num_key_value_heads * config.head_dim,
                Dimension::Inner => config.inner_size(),
                Dimension::Head => config.head_dim,
            };
            let mut layers = Vec::new();
            for spec in tensors(&config) {
                let extents = spec.extents();
                for extent in &extents {
                    assert_eq!(extent.rows.len(), size(extent.output), "{}", spec.name);
                    let input = extent.input.map(size);
                    assert_eq!(input, spec.shape.get(1).copied(), "{}", spec.name);
                }
                let rows: usize = extents.iter().map(|e| e.rows.len()).sum();
                assert_eq!(rows, spec.shape[0], "{}", spec.name);
                layers.push(spec.layer());
            }
            assert_eq!((layers[0], layers[layers.len() - 1]), (None, None));
            assert!(layers.contains(&Some(0)) && layers.contains(&Some(1)));
        }
    }
}
