//! The axes of each tensor: a tool that prunes a model must cut all tensors along the same axis
//! alike.
//!
//! In: a [`TensorSpec`]. Out: its layer, and for each parameter in it the rows that it takes and
//! the [`Axis`] that its rows and columns run over.

use std::ops::Range;

use crate::param_key::{LayerLinear, ParamKey};
use crate::tensors::TensorSpec;

/// What an axis of a tensor runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
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

/// The rows of one parameter of a tensor, and the axes that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// Its rows in the tensor; all, unless q, k and v are fused.
    pub rows: Range<usize>,
    /// What the rows (or a vector's elements) run over.
    pub output: Axis,
    /// What a matrix's columns run over.
    pub input: Option<Axis>,
}

impl TensorSpec {
    /// The layer that it belongs to, if it belongs to one.
    pub fn layer(&self) -> Option<usize> {
        self.parts.iter().find_map(|(key, _)| key.layer())
    }

    /// The parameters in it, in the order of their rows.
    pub fn axes(&self) -> Vec<Axes> {
        let axes = |(key, rows): &(ParamKey, Range<usize>)| {
            let (output, input) = axes(*key);
            Axes {
                rows: rows.clone(),
                output,
                input,
            }
        };
        self.parts.iter().map(axes).collect()
    }
}

fn axes(key: ParamKey) -> (Axis, Option<Axis>) {
    use Axis::{Head, Hidden, Inner, Keys, Queries, Vocabulary};
    let sides = |linear| match linear {
        LayerLinear::Q => (Queries, Hidden),
        LayerLinear::K | LayerLinear::V => (Keys, Hidden),
        LayerLinear::O => (Hidden, Queries),
        LayerLinear::Gate | LayerLinear::Up => (Inner, Hidden),
        LayerLinear::Down => (Hidden, Inner),
    };
    match key {
        ParamKey::Embedding | ParamKey::Head => (Vocabulary, Some(Hidden)),
        ParamKey::FinalNorm | ParamKey::InputNorm(_) | ParamKey::PostNorm(_) => (Hidden, None),
        ParamKey::QNorm(_) | ParamKey::KNorm(_) => (Head, None),
        ParamKey::Weight(_, linear) => {
            let (output, input) = sides(linear);
            (output, Some(input))
        }
        ParamKey::Bias(_, linear) => (sides(linear).0, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ModelConfig, tensors};

    #[test]
    fn axes_have_the_lengths_of_the_config() {
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
            let size = |axis| match axis {
                Axis::Vocabulary => config.vocab_size,
                Axis::Hidden => config.hidden_size,
                Axis::Queries => config.num_attention_heads * config.head_dim,
                Axis::Keys => config.num_key_value_heads * config.head_dim,
                Axis::Inner => config.inner_size(),
                Axis::Head => config.head_dim,
            };
            let mut layers = Vec::new();
            for spec in tensors(&config) {
                let axes = spec.axes();
                for part in &axes {
                    assert_eq!(part.rows.len(), size(part.output), "{}", spec.name);
                    let input = part.input.map(size);
                    assert_eq!(input, spec.shape.get(1).copied(), "{}", spec.name);
                }
                let rows: usize = axes.iter().map(|e| e.rows.len()).sum();
                assert_eq!(rows, spec.shape[0], "{}", spec.name);
                layers.push(spec.layer());
            }
            assert_eq!((layers[0], layers[layers.len() - 1]), (None, None));
            assert!(layers.contains(&Some(0)) && layers.contains(&Some(1)));
        }
    }
}
