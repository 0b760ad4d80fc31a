//! What a layer computes on its way, for those who measure activations.
//!
//! In: the input of a layer, `[B, T, D]`. Out: an [`Observed`], whose `output` is what
//! [`Pieces::layer`] gives, up to rounding.

use burn::tensor::Tensor;

use crate::linear::to;
use crate::ops::rms_norm;
use crate::pieces::Pieces;

/// The activations of one layer: B batch, T sequence, D hidden_size.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What attention is given, `[B, T, D]`.
    pub attention_input: Tensor<3>,
    /// What its heads give, head after head, `[B, T, heads · head_dim]`.
    pub heads: Tensor<3>,
    /// What the feed-forward block is given, `[B, T, D]`.
    pub mlp_input: Tensor<3>,
    /// What its last projection is given, `[B, T, inner]`.
    pub inner: Tensor<3>,
    /// What the layer gives, `[B, T, D]`.
    pub output: Tensor<3>,
}

impl Pieces<'_> {
    /// What attention in layer `i` adds to `x`, and what comes out of the layer; all `[B, T, D]`.
    pub fn attention_and_layer(&self, i: usize, x: Tensor<3>) -> [Tensor<3>; 2] {
        let (layer, pass) = self.parts(i);
        let n = rms_norm(&layer.input_layernorm, x.clone());
        let heads = layer.self_attn.mix(to(n, pass.compute), pass, None);
        let attention = to(layer.self_attn.o_proj.forward(heads), x.dtype());
        let x = x + attention.clone();
        let n = rms_norm(&layer.post_attention_layernorm, x.clone());
        [attention, layer.mlp.forward_added(to(n, pass.compute), x)]
    }

    /// What layer `i` computes if `x` goes in.
    pub fn observe(&self, i: usize, x: Tensor<3>) -> Observed {
        let (layer, pass) = self.parts(i);
        let attention_input = to(rms_norm(&layer.input_layernorm, x.clone()), pass.compute);
        let heads = layer.self_attn.mix(attention_input.clone(), pass, None);
        let x = layer.self_attn.o_proj.forward_added(heads.clone(), x);
        let mlp_input = to(
            rms_norm(&layer.post_attention_layernorm, x.clone()),
            pass.compute,
        );
        let inner = layer.mlp.mix(mlp_input.clone());
        Observed {
            attention_input,
            heads,
            mlp_input,
            output: layer.mlp.down_proj.forward_added(inner.clone(), x),
            inner,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Int, TensorData};
    use serde_json::json;

    use super::*;
    use retort_format::{ModelConfig, Precision};

    use crate::tensor_data::dtype;
    use crate::{Decoder, RandomInit};

    #[test]
    fn a_layer_that_is_observed_gives_what_it_gives_unobserved() {
        let device = Device::flex();
        for kind in ["llama", "qwen", "qwen2", "qwen3"] {
            let config = json!({
                "model_type": kind, "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12,
                "num_hidden_layers": 1, "num_attention_heads": 2,
            });
            let config: ModelConfig = serde_json::from_value(config).unwrap();
            let config = config.resolve().unwrap();
            let model = Decoder::build(&config, &mut RandomInit::new(&config, 1), &device);
            let ids = TensorData::new(vec![1i32, 5, 2, 19, 7, 0], [2, 3]);
            let ids = Tensor::<2, Int>::from_data(ids, &device);
            for compute in [Precision::F32, Precision::Bf16] {
                let model = model.clone().with_compute(compute);
                let rounded = |x: Tensor<3>| to(to(x, dtype(compute)), DType::F32);
                let pieces = model.pieces(ids.clone(), None);
                let x = pieces.embedded();
                let observed = pieces.observe(0, x.clone());
                assert_eq!(observed.heads.dims(), [2, 3, 8]);
                assert_eq!(observed.inner.dims(), [2, 3, config.inner_size()]);
                let output = pieces.layer(0, x.clone());
                let [attention, layer] = pieces.attention_and_layer(0, x.clone());
                let after = rms_norm(&model.layers[0].post_attention_layernorm, x + attention);
                for difference in [
                    observed.output - output.clone(),
                    layer - output,
                    rounded(after) - rounded(observed.mlp_input),
                ] {
                    let most: f32 = difference.abs().max().into_scalar();
                    assert!(most < 1e-6, "{kind} {compute:?}: {most}");
                }
            }
        }
    }
}
