//! Causal self-attention with grouped key/value heads.
//!
//! In: the normed residual stream `[B, T, D]`. Out: the heads' outputs `[B, T, H·E]`, which `o_proj`
//! brings back to `[B, T, D]`.
//!
//! B batch, T queries, H query heads, K key/value heads, E head_dim.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::{DType, Tensor};
use retort_ops::{KvCache, rms_norm};

use crate::forward_context::ForwardContext;
use crate::linear::Linear;

/// See the module.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, `[D, H·E]`.
    pub q_proj: Linear,
    /// Keys, `[D, K·E]`.
    pub k_proj: Linear,
    /// Values, `[D, K·E]`.
    pub v_proj: Linear,
    /// Back to the residual stream, `[H·E, D]`.
    pub o_proj: Linear,
    /// Norm of each query head, `[E]`.
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key head, `[E]`.
    pub k_norm: Option<RmsNorm>,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl Attention {
    /// The heads' outputs for `x`, head after head, `[B, T, H·E]`. `cache` has the keys and values
    /// before `x`, and those of `x` are appended.
    ///
    /// # Panics
    /// A cache in a context without one.
    pub(crate) fn heads(
        &self,
        x: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let split = |y: Tensor<3>, heads: usize| y.reshape([b, t, heads, self.head_dim]);
        let norm = |y: Tensor<4>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => rms_norm(norm, y),
            None => y,
        };
        let q = self.q_proj.forward(x.clone());
        let mut q = norm(split(q, self.heads), &self.q_norm);
        let k = self.k_proj.forward(x.clone());
        let k = norm(split(k, self.kv_heads), &self.k_norm);
        let v = self.v_proj.forward(x);
        if let Some(scale) = &context.query_scale {
            q = q.cast(DType::F32) * scale.clone();
        }
        context.attention.forward([q, k], v, context.compute, cache)
    }
}
