//! Causal attention with grouped heads, RoPE, packed documents and fake quantization of keys and
//! values: one kernel on burn-flex (`kernel.rs`), and elsewhere or with a KV cache composed of
//! Burn's operations (`composed`).
//!
//! B batch, T queries of a row, S keys (T and those of a cache), H query heads, K key/value heads,
//! E head_dim.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Shape, Tensor};

use crate::flex::{contiguous, flex_tensor, zeros};
use crate::operation::{Apply, Operation};
use composed::ComposedAttention;
use shape::CausalAttention;

mod composed;
mod kernel;
mod mask;
mod shape;
#[cfg(test)]
pub(crate) mod tests;

pub use composed::KvCache;
pub use mask::{AttentionMask, Documents};
pub use shape::AttentionShape;

/// How all layers of one forward pass compute attention.
#[derive(Debug)]
pub struct AttentionBackend(Implementation);

#[derive(Debug)]
enum Implementation {
    Kernel(Arc<CausalAttention>),
    Composed(Box<ComposedAttention>),
}

impl AttentionBackend {
    /// Attention of `shape` under `mask` on `device`: by the kernel if `fused`, unless there is a
    /// cache. `rope` has the cosines and sines of the queries' positions, `[1 or B, T, E/2]` each.
    /// With `quantize_kv` keys and values are seen as the engine's 8-bit cache holds them.
    ///
    /// # Panics
    /// Packed documents with `quantize_kv`: blocks of a cache belong to one sequence.
    pub fn new(
        shape: AttentionShape,
        mask: AttentionMask<'_>,
        rope: (Vec<f32>, Vec<f32>),
        quantize_kv: bool,
        fused: bool,
        device: &Device,
    ) -> Self {
        assert!(
            !(quantize_kv && matches!(mask, AttentionMask::Packed(_))),
            "keys and values are quantized in blocks of the row, which documents do not share"
        );
        if !fused || matches!(mask, AttentionMask::Cached(_)) {
            let composed = ComposedAttention::new(shape, mask, rope, quantize_kv, device);
            return Self(Implementation::Composed(Box::new(composed)));
        }
        let (cos, sin) = rope;
        let starts = match mask {
            AttentionMask::Packed(documents) => Some(documents.starts().to_vec()),
            _ => None,
        };
        Self(Implementation::Kernel(Arc::new(CausalAttention {
            shape,
            cos,
            sin,
            starts,
            quantize_kv,
        })))
    }

    /// `softmax(rope(q) rope(k)ᵀ / √E) v` `[B, T, H·E]` for `q` `[B, T, H, E]`, `k` `[B, T, K, E]`
    /// and `v` `[B, T, K·E]`, products in `compute` (f32 for the kernel). `cache` has the keys and
    /// values before them, and these are appended.
    ///
    /// # Panics
    /// A cache without [`AttentionMask::Cached`].
    pub fn forward(
        &self,
        [q, k]: [Tensor<4>; 2],
        v: Tensor<3>,
        compute: DType,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        match &self.0 {
            Implementation::Kernel(attention) => {
                assert!(cache.is_none(), "a cache needs its own mask");
                let flat = |x: Tensor<4>| {
                    let [b, t, heads, e] = x.dims();
                    x.reshape([b, t, heads * e]).into_dispatch()
                };
                let v = v.into_dispatch();
                Tensor::from_dispatch(Dispatch::ternary(attention.clone(), flat(q), flat(k), v))
            }
            Implementation::Composed(composed) => composed.forward([q, k], v, compute, cache),
        }
    }
}

impl Operation<3> for Arc<CausalAttention> {
    /// q, k and v, the output, and the logarithms of the softmax's sums.
    type Saved = ([FlexTensor; 3], [FlexTensor; 2]);

    fn forward(&self, inputs: [FlexTensor; 3], _: bool) -> (FlexTensor, Self::Saved) {
        let [q, k, v] = contiguous(inputs.clone());
        let mut y = zeros(&q);
        let mut logs = vec![0f32; self.shape.batch * self.shape.length * self.shape.heads];
        let slices = [q.storage(), k.storage(), v.storage()];
        kernel::forward(self, slices, &mut y, &mut logs);
        let y = flex_tensor(y, q.shape());
        let shape = Shape::new([logs.len()]);
        (y.clone(), (inputs, [y, flex_tensor(logs, shape)]))
    }

    fn backward(
        &self,
        (inputs, [y, logs]): Self::Saved,
        dy: FlexTensor,
        _: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [q, k, v] = contiguous(inputs);
        let dy = dy.to_contiguous();
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(zeros);
        kernel::backward(
            self,
            [q.storage(), k.storage(), v.storage()],
            [y.storage(), dy.storage(), logs.storage()],
            [&mut dq, &mut dk, &mut dv],
        );
        [(dq, q), (dk, k), (dv, v)].map(|(gradient, x)| Some(flex_tensor(gradient, x.shape())))
    }
}
