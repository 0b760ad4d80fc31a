//! Causal self-attention with grouped key/value heads.
//!
//! In: the normed residual stream `[B, T, D]`. Out: what is added to it, `[B, T, D]`.
//!
//! B batch, T queries, S keys (T and what a cache holds), H query heads, K key/value heads,
//! E head_dim.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::{DType, Tensor};

use crate::linear::{Linear, to};
use crate::ops::{self, Block, Geometry, rms_norm};
use crate::rotary::Rotary;

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

/// What all layers of one forward pass share.
pub(crate) struct Pass {
    pub mixing: Mixing,
    /// What queries are multiplied by, `[1 or B, T, 1, 1]`, where that is not 1.
    pub query_scale: Option<Tensor<4>>,
    /// What products are computed in; f32 where mixing is fused.
    pub compute: DType,
}

/// How positions are mixed.
pub(crate) enum Mixing {
    /// By the operation of its own: nothing is cached, and the device has it.
    Fused(Arc<Geometry>),
    /// By Burn's operations.
    Composed(Box<Composed>),
}

/// What composed attention needs.
pub(crate) struct Composed {
    pub rotary: Rotary,
    /// Query blocks: what each covers and must not see.
    pub blocks: Vec<Block>,
    /// Whether keys and values are rounded as the engine's cache of 8 bits does.
    pub rounded: bool,
}

impl Attention {
    /// `added` and what attention makes of `x`, all `[B, T, D]`; `cache` holds the keys and values before it and is appended to.
    ///
    /// # Panics
    /// A cache with a pass that is not composed.
    pub(crate) fn forward_added(
        &self,
        x: Tensor<3>,
        added: Tensor<3>,
        pass: &Pass,
        cache: Option<&mut Option<[Tensor<4>; 2]>>,
    ) -> Tensor<3> {
        self.o_proj.forward_added(self.mix(x, pass, cache), added)
    }

    /// What the heads make of `x`, before it is projected back: `[B, T, H·E]`.
    ///
    /// # Panics
    /// A cache with a pass that is not composed.
    pub(crate) fn mix(
        &self,
        x: Tensor<3>,
        pass: &Pass,
        cache: Option<&mut Option<[Tensor<4>; 2]>>,
    ) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let (h, k, e) = (self.heads, self.kv_heads, self.head_dim);
        let split = |y: Tensor<3>, n: usize| y.reshape([b, t, n, e]);
        let norm = |y: Tensor<4>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => rms_norm(norm, y),
            None => y,
        };
        let mut q = norm(split(self.q_proj.forward(x.clone()), h), &self.q_norm);
        let key = norm(split(self.k_proj.forward(x.clone()), k), &self.k_norm);
        let value = self.v_proj.forward(x);
        if let Some(scale) = &pass.query_scale {
            q = to(q, DType::F32) * scale.clone();
        }
        match &pass.mixing {
            Mixing::Fused(geometry) => {
                assert!(cache.is_none(), "cached keys go through composed passes");
                let (q, key) = (q.reshape([b, t, h * e]), key.reshape([b, t, k * e]));
                ops::attention(q, key, value, geometry.clone())
            }
            Mixing::Composed(composed) => {
                let Composed {
                    rotary,
                    blocks,
                    rounded,
                } = &**composed;
                // Positions are turned in f32.
                let turned = |y: Tensor<4>| rotary.apply(to(y.swap_dims(1, 2), DType::F32));
                let q = to(turned(q) * (1.0 / (e as f64).sqrt()), pass.compute);
                let (mut key, mut value) = (turned(key), split(value, k).swap_dims(1, 2));
                if *rounded {
                    (key, value) = (ops::halves(key), ops::halves(value));
                }
                let [mut key, mut value] = [key, value].map(|x| to(x, pass.compute));
                if let Some(cache) = cache {
                    if let Some([keys, values]) = cache.take() {
                        key = Tensor::cat(vec![keys, key], 2);
                        value = Tensor::cat(vec![values, value], 2);
                    }
                    *cache = Some([key.clone(), value.clone()]);
                }
                let y = ops::attend(q, key, value, blocks, *rounded);
                y.swap_dims(1, 2).reshape([b, t, h * e])
            }
        }
    }
}
