//! The SwiGLU feed-forward block (Shazeer, arXiv 2002.05202): `down(silu(gate(x)) · up(x))`.

use burn::module::Module;
use burn::tensor::Tensor;
use retort_ops::{fused, gated_mlp, swiglu};

use crate::linear::Linear;

/// See the module.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The gate, `[D, inner]`.
    pub gate_proj: Linear,
    /// What is gated, `[D, inner]`.
    pub up_proj: Linear,
    /// Back to the residual stream, `[inner, D]`.
    pub down_proj: Linear,
}

impl Mlp {
    /// `added` plus the block's output for `x`; all `[B, T, D]`.
    pub(crate) fn forward_added(&self, x: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        let weights = [&self.gate_proj, &self.up_proj, &self.down_proj].map(Linear::plain_weight);
        if let [Some(gate), Some(up), Some(down)] = weights
            && fused(&x)
            && self.down_proj.rounding.input.is_none()
        {
            return gated_mlp(x, [gate, up, down], added);
        }
        self.down_proj.forward_added(self.inner(x), added)
    }

    /// The input of the last projection, `[B, T, inner]`.
    pub(crate) fn inner(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone());
        swiglu(gate, self.up_proj.forward(x))
    }
}
