//! One layer of the decoder, and the activations inside it that a caller may ask for.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;
use retort_ops::{KvCache, rms_norm};

use crate::attention::Attention;
use crate::forward_context::ForwardContext;
use crate::mlp::Mlp;

/// One layer: attention and feed-forward, each on a normed input and added back.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward block.
    pub post_attention_layernorm: RmsNorm,
    /// Feed-forward block.
    pub mlp: Mlp,
}

/// An activation inside a layer; in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// The input of attention, `[B, T, D]`.
    AttentionInput,
    /// The outputs of its heads, `[B, T, H·E]`.
    Heads,
    /// What attention adds to the residual stream, `[B, T, D]`.
    AttentionOutput,
    /// The input of the feed-forward block, `[B, T, D]`.
    MlpInput,
    /// The input of its last projection, `[B, T, inner]`.
    MlpInner,
}

/// Keeps activations of a layer's forward pass.
#[derive(Debug, Default)]
pub(crate) struct LayerHook {
    wanted: &'static [Activation],
    kept: Vec<Tensor<3>>,
}

impl LayerHook {
    /// Keeps those `wanted`.
    pub fn new(wanted: &'static [Activation]) -> Self {
        let kept = Vec::new();
        Self { wanted, kept }
    }

    /// Those that were kept, in the order of the forward pass.
    ///
    /// # Panics
    /// N is not how many were wanted, or there was no forward pass.
    pub fn kept<const N: usize>(self) -> [Tensor<3>; N] {
        self.kept.try_into().expect("as many as were wanted")
    }

    fn wants(&self, activation: Activation) -> bool {
        self.wanted.contains(&activation)
    }

    fn see(&mut self, activation: Activation, x: &Tensor<3>) {
        if self.wants(activation) {
            self.kept.push(x.clone());
        }
    }
}

impl Block {
    /// The layer's output for `x`, both `[B, T, D]`. Activations that fused operations skip are
    /// computed where `hook` wants them.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut KvCache>,
        hook: &mut LayerHook,
    ) -> Tensor<3> {
        let n = rms_norm(&self.input_layernorm, x.clone()).cast(context.compute);
        hook.see(Activation::AttentionInput, &n);
        let heads = self.self_attn.heads(n, context, cache);
        hook.see(Activation::Heads, &heads);
        let o_proj = &self.self_attn.o_proj;
        let x = if hook.wants(Activation::AttentionOutput) {
            let attention = o_proj.forward(heads).cast(x.dtype());
            hook.see(Activation::AttentionOutput, &attention);
            x + attention
        } else {
            o_proj.forward_added(heads, x)
        };
        let n = rms_norm(&self.post_attention_layernorm, x.clone()).cast(context.compute);
        hook.see(Activation::MlpInput, &n);
        if hook.wants(Activation::MlpInner) {
            let inner = self.mlp.inner(n);
            hook.see(Activation::MlpInner, &inner);
            self.mlp.down_proj.forward_added(inner, x)
        } else {
            self.mlp.forward_added(n, x)
        }
    }
}
