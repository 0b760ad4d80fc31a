//! The SwiGLU feed-forward block (Shazeer, arXiv 2002.05202): `down(silu(gate(x)) · up(x))`.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::linear::Linear;
use crate::ops::swiglu;

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
    /// `[B, T, D]` to `[B, T, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone());
        self.down_proj
            .forward(swiglu(gate, self.up_proj.forward(x)))
    }
}
