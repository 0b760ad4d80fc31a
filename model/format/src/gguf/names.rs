//! A model's tensors as a GGUF file has them: names, shapes, order, order of rows.
//!
//! Names are those of llama.cpp's `gguf-py`, order and order of rows those of its `convert_hf_to_gguf.py`.

use crate::architecture::RopePairs;
use crate::config::ModelConfig;
use crate::param_key::{LayerLinear, ParamKey};
use crate::tensors::{TensorSpec, tensors};

/// The embedding table [vocab_size, hidden_size].
pub const EMBEDDING: &str = "token_embd.weight";
/// The output projection, where it is not the embedding table.
pub const HEAD: &str = "output.weight";
/// The divisors of the rotary frequencies [head_dim / 2], where a model has them.
pub const ROPE_DIVISORS: &str = "rope_freqs.weight";

impl ParamKey {
    /// The name of its tensor in a GGUF file of a model of `config`.
    pub fn gguf_tensor(self, config: &ModelConfig) -> String {
        let name = match self {
            Self::Embedding => return EMBEDDING.to_owned(),
            Self::Head => return HEAD.to_owned(),
            Self::FinalNorm => "output_norm",
            Self::InputNorm(_) => "attn_norm",
            Self::PostNorm(_) => "ffn_norm",
            Self::QNorm(_) => "attn_q_norm",
            Self::KNorm(_) => "attn_k_norm",
            Self::Weight(_, linear) | Self::Bias(_, linear) => match linear {
                LayerLinear::Q | LayerLinear::K | LayerLinear::V
                    if config.model_type.fused_qkv() =>
                {
                    "attn_qkv"
                }
                LayerLinear::Q => "attn_q",
                LayerLinear::K => "attn_k",
                LayerLinear::V => "attn_v",
                LayerLinear::O => "attn_output",
                LayerLinear::Gate => "ffn_gate",
                LayerLinear::Up => "ffn_up",
                LayerLinear::Down => "ffn_down",
            },
        };
        let suffix = self.suffix();
        match self.layer() {
            Some(layer) => format!("blk.{layer}.{name}.{suffix}"),
            None => format!("{name}.{suffix}"),
        }
    }
}

impl TensorSpec {
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

/// The tensors that a GGUF file of `config` may have besides: biases of q, k and v, where the architecture does not
/// always have them.
pub fn optional_gguf_tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    if LayerLinear::Q.has_bias(config) {
        return Vec::new();
    }
    let biased = ModelConfig {
        attention_bias: true,
        ..config.clone()
    };
    let qkv = [LayerLinear::Q, LayerLinear::K, LayerLinear::V];
    let mut list = tensors(&biased);
    list.retain(
        |spec| matches!(spec.parts[0].0, ParamKey::Bias(_, linear) if qkv.contains(&linear)),
    );
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::tests::config;

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
}
