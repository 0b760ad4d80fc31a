//! The operations as an extension of Burn's back ends: burn-flex runs them on slices
//! ([`FusedOps`]), and autodiff adds their hand-written gradients.

use std::sync::Arc;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Shape};

use super::attention::{self, Geometry};
use super::cross_entropy::{self, Gradients, Head, Targets};
use super::{norm, swiglu};

/// What a model calls.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// [`attention`]: `[B, T, H·E]`, `[B, T, K·E]` twice, to `[B, T, H·E]`.
    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        geometry: Arc<Geometry>,
    ) -> FloatTensor<Self>;

    /// [`norm`]: `[.., D]` and `[D]` to `[.., D]`.
    fn rms_norm(x: FloatTensor<Self>, w: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;

    /// [`swiglu`]: of one shape.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`cross_entropy`]: `[N, D]` and the head to `[1]`.
    fn linear_cross_entropy(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
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

    /// The loss, and its gradients with respect to `x` and the head.
    fn linear_cross_entropy_with_gradients(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        DType::F32,
    )
}

fn zeros(like: &FlexTensor) -> Vec<f32> {
    vec![0f32; like.shape().num_elements()]
}

/// The target ids, which flex keeps in one of two widths.
fn ids(targets: &FlexTensor) -> Vec<usize> {
    let targets = targets.to_contiguous();
    match targets.dtype() {
        DType::I32 => targets
            .storage::<i32>()
            .iter()
            .map(|&i| i as usize)
            .collect(),
        _ => targets
            .storage::<i64>()
            .iter()
            .map(|&i| i as usize)
            .collect(),
    }
}

fn cross_entropy_on_slices(
    [x, head, weights]: [FlexTensor; 3],
    tied: bool,
    targets: &FlexTensor,
    with_gradients: bool,
) -> (f64, Option<[FlexTensor; 2]>) {
    let [x, head, weights] = [x, head, weights].map(|t| t.to_contiguous());
    let ids = ids(targets);
    let on = Head {
        weights: head.storage(),
        vocabulary: head.shape()[if tied { 0 } else { 1 }],
        tied,
    };
    let targets = Targets {
        ids: &ids,
        weights: weights.storage(),
    };
    if !with_gradients {
        return (cross_entropy::loss(x.storage(), on, targets, None), None);
    }
    let (mut dx, mut dhead) = (zeros(&x), zeros(&head));
    let gradients = Gradients {
        x: &mut dx,
        weights: &mut dhead,
    };
    let loss = cross_entropy::loss(x.storage(), on, targets, Some(gradients));
    let gradients = [tensor(dx, x.shape()), tensor(dhead, head.shape())];
    (loss, Some(gradients))
}

impl FusedOps for Flex {
    fn causal_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        geometry: Arc<Geometry>,
    ) -> FlexTensor {
        let [y, _] = Self::attention_kept([q, k, v], &geometry);
        y
    }

    fn rms_norm(x: FlexTensor, w: FlexTensor, epsilon: f32) -> FlexTensor {
        let [x, w] = [x, w].map(|t| t.to_contiguous());
        let mut y = zeros(&x);
        norm::forward(x.storage(), w.storage(), epsilon, &mut y);
        tensor(y, x.shape())
    }

    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let [gate, up] = [gate, up].map(|t| t.to_contiguous());
        let mut y = zeros(&gate);
        swiglu::forward(gate.storage(), up.storage(), &mut y);
        tensor(y, gate.shape())
    }

    fn linear_cross_entropy(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
    ) -> FlexTensor {
        let (loss, _) = cross_entropy_on_slices([x, head, weights], tied, &targets, false);
        tensor(vec![loss as f32], Shape::new([1]))
    }
}

impl FusedGradients for Flex {
    fn attention_kept(inputs: [FlexTensor; 3], geometry: &Geometry) -> [FlexTensor; 2] {
        let [q, k, v] = inputs.map(|t| t.to_contiguous());
        let mut y = zeros(&q);
        let mut logs = vec![0f32; geometry.batch * geometry.length * geometry.heads];
        let inputs = [q.storage(), k.storage(), v.storage()];
        attention::forward(geometry, inputs, &mut y, &mut logs);
        let shape = Shape::new([logs.len()]);
        [tensor(y, q.shape()), tensor(logs, shape)]
    }

    fn attention_backward(
        inputs: [FlexTensor; 3],
        kept: [FlexTensor; 2],
        dy: FlexTensor,
        geometry: &Geometry,
    ) -> [FlexTensor; 3] {
        let [q, k, v] = inputs.map(|t| t.to_contiguous());
        let [y, logs] = kept.map(|t| t.to_contiguous());
        let dy = dy.to_contiguous();
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(zeros);
        attention::backward(
            geometry,
            [q.storage(), k.storage(), v.storage()],
            [y.storage(), dy.storage(), logs.storage()],
            [&mut dq, &mut dk, &mut dv],
        );
        [
            tensor(dq, q.shape()),
            tensor(dk, k.shape()),
            tensor(dv, v.shape()),
        ]
    }

    fn rms_norm_backward(
        x: FlexTensor,
        w: FlexTensor,
        dy: FlexTensor,
        epsilon: f32,
    ) -> [FlexTensor; 2] {
        let [x, w, dy] = [x, w, dy].map(|t| t.to_contiguous());
        let mut dx = zeros(&x);
        let dw = norm::backward(x.storage(), w.storage(), dy.storage(), epsilon, &mut dx);
        [tensor(dx, x.shape()), tensor(dw, w.shape())]
    }

    fn swiglu_backward(gate: FlexTensor, up: FlexTensor, dy: FlexTensor) -> [FlexTensor; 2] {
        let [gate, up, dy] = [gate, up, dy].map(|t| t.to_contiguous());
        let [mut dgate, mut dup] = [&gate, &up].map(zeros);
        swiglu::backward(
            gate.storage(),
            up.storage(),
            dy.storage(),
            &mut dgate,
            &mut dup,
        );
        [tensor(dgate, gate.shape()), tensor(dup, up.shape())]
    }

    fn linear_cross_entropy_with_gradients(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
    ) -> [FlexTensor; 3] {
        let (loss, gradients) = cross_entropy_on_slices([x, head, weights], tied, &targets, true);
        let [dx, dhead] = gradients.expect("gradients were asked for");
        let loss = tensor(vec![loss as f32], Shape::new([1]));
        [loss, dx, dhead]
    }
}
