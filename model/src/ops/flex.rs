//! The operations on burn-flex: from its tensors to slices and back.

use std::sync::Arc;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType, Shape};

use super::attention::{self, Geometry};
use super::backend::{FusedGradients, FusedOps};
use super::cross_entropy::{self, Targets};
use super::grid::{self, Grid};
use super::head::{Gradients, Head};
use super::product::{Threads, View, product, product_into};
use super::{distillation, norm, raw, swiglu};
use crate::distillation::{Lesson, Mixture};

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        DType::F32,
    )
}

/// Zeros of a tensor's size.
fn zeros(like: &FlexTensor) -> Vec<f32> {
    raw::zeros(like.shape().num_elements())
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

/// A loss over the head's logits and, if asked for, its gradients by `x` and the head, which
/// `loss` fills.
fn over_head<R>(
    [x, head, weights]: [FlexTensor; 3],
    tied: bool,
    targets: &FlexTensor,
    with_gradients: bool,
    loss: impl FnOnce(&[f32], Head<'_>, Targets<'_>, Option<Gradients<'_>>) -> R,
) -> (R, Option<[FlexTensor; 2]>) {
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
        return (loss(x.storage(), on, targets, None), None);
    }
    let (mut dx, mut dhead) = (Vec::new(), Vec::new());
    let gradients = Gradients {
        x: &mut dx,
        weights: &mut dhead,
    };
    let loss = loss(x.storage(), on, targets, Some(gradients));
    // No positions leave them empty.
    dx.resize(x.shape().num_elements(), 0.0);
    dhead.resize(head.shape().num_elements(), 0.0);
    let gradients = [tensor(dx, x.shape()), tensor(dhead, head.shape())];
    (loss, Some(gradients))
}

/// Sums as a tensor.
fn sums(sums: &[f64]) -> FlexTensor {
    let values: Vec<f32> = sums.iter().map(|&x| x as f32).collect();
    tensor(values, Shape::new([sums.len()]))
}

/// A tensor as rows of its last dimension.
fn rows(x: &FlexTensor) -> View<'_> {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    View::new(x.storage(), shape.num_elements() / width.max(1), width)
}

/// A matrix of weights: a transposed one, such as an embedding that is the head too, is not
/// laid out anew.
struct Matrix {
    tensor: FlexTensor,
    transposed: bool,
}

impl Matrix {
    fn new(tensor: FlexTensor) -> Self {
        let (layout, rows) = (tensor.layout(), tensor.shape()[0]);
        let transposed = !layout.is_contiguous()
            && layout.start_offset() == 0
            && *layout.strides() == [1, rows as isize];
        Self {
            tensor: if transposed {
                tensor
            } else {
                tensor.to_contiguous()
            },
            transposed,
        }
    }

    fn view(&self) -> View<'_> {
        let shape = self.tensor.shape();
        match self.transposed {
            true => View::new(self.tensor.storage(), shape[1], shape[0]).t(),
            false => View::new(self.tensor.storage(), shape[0], shape[1]),
        }
    }

    fn columns(&self) -> usize {
        self.tensor.shape()[1]
    }

    fn rows(&self) -> usize {
        self.tensor.shape()[0]
    }
}

/// The shape of `x` with another last dimension.
fn with_width(x: &FlexTensor, width: usize) -> Shape {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    shape[last] = width;
    shape
}

/// What a product is added to: `added` itself, or repeated for every row of `shape`.
fn base(added: &FlexTensor, shape: &Shape) -> Vec<f32> {
    let added: &[f32] = added.storage();
    added.repeat(shape.num_elements() / added.len().max(1))
}

impl FusedOps for Flex {
    fn project(x: FlexTensor, w: FlexTensor) -> FlexTensor {
        let (x, w) = (x.to_contiguous(), Matrix::new(w));
        let y = product(rows(&x), w.view(), Threads::All);
        tensor(y, with_width(&x, w.columns()))
    }

    fn project_added(x: FlexTensor, w: FlexTensor, added: FlexTensor) -> FlexTensor {
        let [x, added] = [x, added].map(|t| t.to_contiguous());
        let w = Matrix::new(w);
        let shape = with_width(&x, w.columns());
        let mut y = base(&added, &shape);
        product_into(&mut y, rows(&x), w.view(), true, Threads::All);
        tensor(y, shape)
    }

    fn gated_mlp(
        x: FlexTensor,
        gate: FlexTensor,
        up: FlexTensor,
        down: FlexTensor,
        added: FlexTensor,
    ) -> FlexTensor {
        let [y, _, _] = Self::gated_mlp_kept(x, [gate, up, down], added);
        y
    }

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

    fn rounded(x: FlexTensor, grid: Grid, columns: usize) -> FlexTensor {
        let x = x.to_contiguous();
        let mut y = zeros(&x);
        grid::forward(grid, x.storage(), columns, &mut y);
        tensor(y, x.shape())
    }

    fn linear_cross_entropy(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
    ) -> FlexTensor {
        let inputs = [x, head, weights];
        let (loss, _) = over_head(inputs, tied, &targets, false, cross_entropy::loss);
        sums(&[loss])
    }

    fn linear_distillation(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
        taught: Arc<(Lesson, Mixture)>,
    ) -> FlexTensor {
        let inputs = [x, head, weights];
        let (found, _) = over_head(inputs, tied, &targets, false, |x, head, targets, g| {
            distillation::loss(x, head, targets, (&taught.0, &taught.1), g)
        });
        sums(&found)
    }
}

impl FusedGradients for Flex {
    fn project_input_backward(dy: FlexTensor, w: FlexTensor) -> FlexTensor {
        let (dy, w) = (dy.to_contiguous(), Matrix::new(w));
        let dx = product(rows(&dy), w.view().t(), Threads::All);
        tensor(dx, with_width(&dy, w.rows()))
    }

    fn project_weight_backward(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let [x, dy] = [x, dy].map(|t| t.to_contiguous());
        let (x, dy) = (rows(&x), rows(&dy));
        let shape = Shape::new([x.columns(), dy.columns()]);
        tensor(product(x.t(), dy, Threads::All), shape)
    }

    fn project_added_backward(dy: FlexTensor, like: &FlexTensor) -> FlexTensor {
        if like.shape() == dy.shape() {
            return dy;
        }
        let dy = dy.to_contiguous();
        let width = like.shape().num_elements();
        let mut sums = vec![0f32; width];
        for row in dy.storage::<f32>().chunks_exact(width.max(1)) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        tensor(sums, like.shape())
    }

    fn gated_mlp_kept(
        x: FlexTensor,
        weights: [FlexTensor; 3],
        added: FlexTensor,
    ) -> [FlexTensor; 3] {
        let [x, added] = [x, added].map(|t| t.to_contiguous());
        let [g, u, w] = weights.map(|t| t.to_contiguous());
        let inner = g.shape()[1];
        let gate = product(rows(&x), rows(&g), Threads::All);
        let up = product(rows(&x), rows(&u), Threads::All);
        let mut mixed = raw::zeros(gate.len());
        swiglu::forward(&gate, &up, &mut mixed);
        let shape = with_width(&x, w.shape()[1]);
        let mut y = base(&added, &shape);
        let mixed = View::new(&mixed, gate.len() / inner.max(1), inner);
        product_into(&mut y, mixed, rows(&w), true, Threads::All);
        let inner = with_width(&x, inner);
        [
            tensor(y, shape),
            tensor(gate, inner.clone()),
            tensor(up, inner),
        ]
    }

    fn gated_mlp_backward(
        x: FlexTensor,
        weights: [FlexTensor; 3],
        kept: [FlexTensor; 2],
        dy: FlexTensor,
        wanted: [bool; 4],
    ) -> [Option<FlexTensor>; 4] {
        let [x, dy] = [x, dy].map(|t| t.to_contiguous());
        let [g, u, w] = weights.map(|t| t.to_contiguous());
        let [gate, up] = kept.map(|t| t.to_contiguous());
        let (gate, up): (&[f32], &[f32]) = (gate.storage(), up.storage());
        let inner = g.shape()[1];
        fn matrix(x: &[f32], inner: usize) -> View<'_> {
            View::new(x, x.len() / inner.max(1), inner)
        }
        let all = Threads::All;
        let [want_x, want_g, want_u, want_w] = wanted;
        // First what was mixed, for the gradient of W, then in its place the gate's.
        let mut mixed = raw::zeros(gate.len());
        let dw = want_w.then(|| {
            swiglu::forward(gate, up, &mut mixed);
            tensor(
                product(matrix(&mixed, inner).t(), rows(&dy), all),
                w.shape(),
            )
        });
        let mut dup = product(rows(&dy), rows(&w).t(), all);
        swiglu::backward(gate, up, &mut mixed, &mut dup);
        let (dgate, dup) = (matrix(&mixed, inner), matrix(&dup, inner));
        let dg = want_g.then(|| tensor(product(rows(&x).t(), dgate, all), g.shape()));
        let du = want_u.then(|| tensor(product(rows(&x).t(), dup, all), u.shape()));
        let dx = want_x.then(|| {
            let mut dx = product(dgate, rows(&g).t(), all);
            product_into(&mut dx, dup, rows(&u).t(), true, all);
            tensor(dx, x.shape())
        });
        [dx, dg, du, dw]
    }

    fn scaled(x: FlexTensor, by: FlexTensor) -> FlexTensor {
        let by = by.to_contiguous().storage::<f32>()[0];
        if by == 1.0 {
            return x;
        }
        Self::float_mul_scalar(x, by.into())
    }

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
        let (mut dgate, mut dup) = (zeros(&gate), dy.storage::<f32>().to_vec());
        swiglu::backward(gate.storage(), up.storage(), &mut dgate, &mut dup);
        [tensor(dgate, gate.shape()), tensor(dup, up.shape())]
    }

    fn rounded_backward(x: FlexTensor, dy: FlexTensor, grid: Grid, columns: usize) -> FlexTensor {
        let [x, dy] = [x, dy].map(|t| t.to_contiguous());
        let mut dx = dy.storage::<f32>().to_vec();
        grid::backward(grid, x.storage(), columns, &mut dx);
        tensor(dx, x.shape())
    }

    fn linear_cross_entropy_with_gradients(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
    ) -> [FlexTensor; 3] {
        let inputs = [x, head, weights];
        let (loss, gradients) = over_head(inputs, tied, &targets, true, cross_entropy::loss);
        let [dx, dhead] = gradients.expect("gradients were asked for");
        [sums(&[loss]), dx, dhead]
    }

    fn linear_distillation_with_gradients(
        x: FlexTensor,
        head: FlexTensor,
        tied: bool,
        targets: FlexTensor,
        weights: FlexTensor,
        (lesson, mixture): &(Lesson, Mixture),
    ) -> [FlexTensor; 3] {
        let inputs = [x, head, weights];
        let (found, gradients) = over_head(inputs, tied, &targets, true, |x, head, targets, g| {
            distillation::loss(x, head, targets, (lesson, mixture), g)
        });
        let [dx, dhead] = gradients.expect("gradients were asked for");
        [sums(&found), dx, dhead]
    }
}
