//! A forward pass a layer at a time: for backward passes that keep the activations of one layer
//! (activation checkpointing: Chen et al., arXiv 1604.06174), and for those who look at layers'
//! outputs and activations.
//!
//! In: token ids `[B, T]`. Out: the input of the first layer, the output of each and the last norm's,
//! all `[B, T, D]`; in this order they are what [`Decoder::hidden`] computes.

use burn::tensor::module::embedding;
use burn::tensor::{DType, Int, Tensor};
use retort_ops::{AttentionMask, Documents, rms_norm};

use crate::block::{Activation, LayerHook};
use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::forward_context::ForwardContext;
use crate::quantization_config::{FakeQuantization, KvFormat};
use crate::tensor_data::dtype;

/// See the module.
pub struct LayerwiseForward<'a> {
    model: &'a Decoder,
    ids: Tensor<2, Int>,
    context: ForwardContext,
}

/// The activations of one layer: B batch, T sequence, D hidden_size.
#[derive(Clone, Debug)]
pub struct LayerActivations {
    /// The input of attention, `[B, T, D]`.
    pub attention_input: Tensor<3>,
    /// The outputs of its heads, head after head, `[B, T, heads · head_dim]`.
    pub heads: Tensor<3>,
    /// The input of the feed-forward block, `[B, T, D]`.
    pub mlp_input: Tensor<3>,
    /// The input of its last projection, `[B, T, inner]`.
    pub inner: Tensor<3>,
    /// The layer's output, `[B, T, D]`.
    pub output: Tensor<3>,
}

impl Decoder {
    /// A forward pass over `ids`, each row one document or the `documents` packed into it. It
    /// builds a graph if the model and the ids are on a device with autodiff.
    ///
    /// # Panics
    /// `documents` has other dimensions than `ids`, or the model rounds keys and values.
    pub fn layerwise(
        &self,
        ids: Tensor<2, Int>,
        documents: Option<&Documents>,
    ) -> LayerwiseForward<'_> {
        let mask = match documents {
            Some(documents) => {
                assert_eq!(documents.dims(), ids.dims(), "documents of these ids");
                AttentionMask::Packed(documents)
            }
            None => AttentionMask::Causal,
        };
        self.layerwise_masked(ids, mask)
    }

    pub(crate) fn layerwise_masked(
        &self,
        ids: Tensor<2, Int>,
        mask: AttentionMask<'_>,
    ) -> LayerwiseForward<'_> {
        let device = ids.device();
        let quantize_kv = self.quantization.is_some_and(|q| q.kv == KvFormat::Q8);
        LayerwiseForward {
            model: self,
            context: ForwardContext::new(
                &self.config,
                ids.dims(),
                mask,
                [self.fused(&device), quantize_kv],
                dtype(self.compute),
                &device,
            ),
            ids,
        }
    }
}

impl LayerwiseForward<'_> {
    /// The input of the first layer, in f32.
    pub fn embedded(&self) -> Tensor<3> {
        let rows = embedding(self.model.embed_tokens.weight.val(), self.ids.clone());
        let rows = rows.cast(DType::F32);
        match self.model.quantization {
            Some(_) => FakeQuantization::table(rows),
            None => rows,
        }
    }

    /// The output of layer `i` for the input `x`.
    pub fn layer(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        self.hooked(i, x, &mut LayerHook::default())
    }

    /// What attention in layer `i` adds to `x`, and the output of the layer; all `[B, T, D]`.
    pub fn attention_and_layer(&self, i: usize, x: Tensor<3>) -> [Tensor<3>; 2] {
        let mut hook = LayerHook::new(&[Activation::AttentionOutput]);
        let output = self.hooked(i, x, &mut hook);
        let [attention] = hook.kept();
        [attention, output]
    }

    /// The activations of layer `i` for the input `x`; the output is that of
    /// [`layer`](Self::layer) up to rounding.
    pub fn activations(&self, i: usize, x: Tensor<3>) -> LayerActivations {
        let mut hook = LayerHook::new(&[
            Activation::AttentionInput,
            Activation::Heads,
            Activation::MlpInput,
            Activation::MlpInner,
        ]);
        let output = self.hooked(i, x, &mut hook);
        let [attention_input, heads, mlp_input, inner] = hook.kept();
        LayerActivations {
            attention_input,
            heads,
            mlp_input,
            inner,
            output,
        }
    }

    /// The last layer's output `x` normed for the head.
    pub fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        rms_norm(&self.model.norm, x)
    }

    /// All of it, with the keys and values of earlier ids in `cache`.
    pub(crate) fn forward(self, mut cache: Option<&mut Cache>) -> Tensor<3> {
        let mut x = self.embedded();
        for (i, layer) in self.model.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| &mut cache.layers[i]);
            x = layer.forward(x, &self.context, cache, &mut LayerHook::default());
        }
        self.normed(x)
    }

    fn hooked(&self, i: usize, x: Tensor<3>, hook: &mut LayerHook) -> Tensor<3> {
        self.model.layers[i].forward(x, &self.context, None, hook)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};
    use retort_format::{ModelConfig, Precision};
    use serde_json::json;

    use super::*;
    use crate::RandomInit;

    #[test]
    fn layer_output_is_the_same_with_and_without_activations() {
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
                let rounded = |x: Tensor<3>| x.cast(dtype(compute)).cast(DType::F32);
                let pass = model.layerwise(ids.clone(), None);
                let x = pass.embedded();
                let seen = pass.activations(0, x.clone());
                assert_eq!(seen.heads.dims(), [2, 3, 8]);
                assert_eq!(seen.inner.dims(), [2, 3, config.inner_size()]);
                let output = pass.layer(0, x.clone());
                let [attention, layer] = pass.attention_and_layer(0, x.clone());
                let after = rms_norm(&model.layers[0].post_attention_layernorm, x + attention);
                for difference in [
                    seen.output - output.clone(),
                    layer - output,
                    rounded(after) - rounded(seen.mlp_input),
                ] {
                    let most: f32 = difference.abs().max().into_scalar();
                    assert!(most < 1e-6, "{kind} {compute:?}: {most}");
                }
            }
        }
    }
}
