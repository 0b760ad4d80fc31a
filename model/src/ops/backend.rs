//! The operations as an extension of Burn's back ends ([`FusedOps`]), and what their
//! gradients need of a back end beside them ([`FusedGradients`]).

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::attention::Geometry;
use super::grid::Grid;
use crate::distillation::{Lesson, Mixture};

/// What a model calls.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// [`attention`](super::attention): `[B, T, H·E]`, `[B, T, K·E]` twice, to `[B, T, H·E]`.
    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        geometry: Arc<Geometry>,
    ) -> FloatTensor<Self>;

    /// `x` `[.., I]` times `w` `[I, O]`, plus `added` `[O]` or `[.., O]` where there is one.
    fn project(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`project`](Self::project).
    fn project_added(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        added: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `added + (silu(x G) · (x U)) W`: `x` and `added` `[.., D]`, `G` and `U` `[D, I]`, `W`
    /// `[I, D]`.
    fn gated_mlp(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        down: FloatTensor<Self>,
        added: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// [`norm`](super::norm): `[.., D]` and `[D]` to `[.., D]`.
    fn rms_norm(x: FloatTensor<Self>, w: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;

    /// [`swiglu`](super::swiglu): of one shape.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`grid`](super::grid): of one shape, in blocks as `[groups, 32, columns]` has them.
    fn rounded(x: FloatTensor<Self>, grid: Grid, columns: usize) -> FloatTensor<Self>;

    /// [`cross_entropy`](super::cross_entropy): `[N, D]` and the head to `[1]`.
    fn linear_cross_entropy(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// [`distillation`](super::distillation): `[N, D]` and the head to `[6]`, of which the
    /// first is differentiated.
    fn linear_distillation(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        taught: Arc<(Lesson, Mixture)>,
    ) -> FloatTensor<Self>;
}

/// What their gradients need.
pub(crate) trait FusedGradients: FusedOps {
    /// The output, and the logarithms of the softmax's sums.
    fn attention_kept(
        inputs: [FloatTensor<Self>; 3],
        geometry: &Geometry,
    ) -> [FloatTensor<Self>; 2];

    /// Gradients of q, k and v from those of the output, and what
    /// [`attention_kept`](Self::attention_kept) answered.
    fn attention_backward(
        inputs: [FloatTensor<Self>; 3],
        kept: [FloatTensor<Self>; 2],
        dy: FloatTensor<Self>,
        geometry: &Geometry,
    ) -> [FloatTensor<Self>; 3];

    /// The gradient of `x` `[.., I]`: `dy wᵀ`.
    fn project_input_backward(dy: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of `w`: `xᵀ dy`.
    fn project_weight_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of what was added, `[O]` or of `dy`'s shape as `like` is.
    fn project_added_backward(dy: FloatTensor<Self>, like: &FloatTensor<Self>)
    -> FloatTensor<Self>;

    /// The output, `x G` and `x U`.
    fn gated_mlp_kept(
        x: FloatTensor<Self>,
        weights: [FloatTensor<Self>; 3],
        added: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// Gradients of `x`, `G`, `U` and `W`, those that are `wanted`, given `x G` and `x U`.
    fn gated_mlp_backward(
        x: FloatTensor<Self>,
        weights: [FloatTensor<Self>; 3],
        kept: [FloatTensor<Self>; 2],
        dy: FloatTensor<Self>,
        wanted: [bool; 4],
    ) -> [Option<FloatTensor<Self>>; 4];

    /// Gradients of `x` and `w`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        epsilon: f32,
    ) -> [FloatTensor<Self>; 2];

    /// Gradients of `gate` and `up`.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];

    /// The gradient of `x`, of a grid that clips.
    fn rounded_backward(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        grid: Grid,
        columns: usize,
    ) -> FloatTensor<Self>;

    /// The loss, and its gradients with respect to `x` and the head.
    fn linear_cross_entropy_with_gradients(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// The loss and its parts, and the loss's gradients with respect to `x` and the head.
    fn linear_distillation_with_gradients(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        taught: &(Lesson, Mixture),
    ) -> [FloatTensor<Self>; 3];

    /// `x` times the first number in `by`.
    fn scaled(x: FloatTensor<Self>, by: FloatTensor<Self>) -> FloatTensor<Self>;
}
