//! A feed-forward block in one operation: `y = added + (silu(x G) · (x U)) W` (SwiGLU: Shazeer,
//! arXiv 2002.05202). The backward pass computes `silu(x G) · (x U)` again from `x G` and `x U`.
//!
//! In: `x` and `added` `[.., D]`, `G` and `U` `[D, I]`, `W` `[I, D]`. Out: `[.., D]`.

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::Tensor;

use crate::flex::{broadcast, contiguous, flex_tensor, rows, with_width};
use crate::matmul::{Threads, View, product, product_into};
use crate::operation::{Apply, Operation};
use crate::{swiglu, uninit};

/// `added + (silu(x gate) · (x up)) down`: `x` and `added` `[B, T, D]`, `gate` and `up` `[D, I]`,
/// `down` `[I, D]`, all [`fused`](crate::fused).
pub fn gated_mlp(x: Tensor<3>, [gate, up, down]: [Tensor<2>; 3], added: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::quinary(
        GatedMlp,
        x.into_dispatch(),
        gate.into_dispatch(),
        up.into_dispatch(),
        down.into_dispatch(),
        added.into_dispatch(),
    ))
}

#[derive(Debug)]
struct GatedMlp;

impl Operation<5> for GatedMlp {
    /// `x`, the three weights, `x G` and `x U`.
    type Saved = ([FlexTensor; 4], [FlexTensor; 2]);

    fn forward(&self, [x, g, u, w, added]: [FlexTensor; 5], _: bool) -> (FlexTensor, Self::Saved) {
        let inputs = [x, g, u, w];
        let [x, g, u, w] = contiguous(inputs.clone());
        let inner = g.shape()[1];
        let gate = product(rows(&x), rows(&g), Threads::All);
        let up = product(rows(&x), rows(&u), Threads::All);
        let mut mixed = uninit::zeros(gate.len());
        swiglu::forward(&gate, &up, &mut mixed);
        let shape = with_width(&x, w.shape()[1]);
        let mut y = broadcast(&added.to_contiguous(), &shape);
        product_into(&mut y, matrix(&mixed, inner), rows(&w), true, Threads::All);
        let inner = with_width(&x, inner);
        let products = [flex_tensor(gate, inner.clone()), flex_tensor(up, inner)];
        (flex_tensor(y, shape), (inputs, products))
    }

    fn backward(
        &self,
        (inputs, products): Self::Saved,
        dy: FlexTensor,
        wanted: [bool; 5],
    ) -> [Option<FlexTensor>; 5] {
        let [x, g, u, w] = contiguous(inputs);
        let [gate, up] = products;
        let (gate, up): (&[f32], &[f32]) = (gate.storage(), up.storage());
        let (dadded, dy) = (dy.clone(), dy.to_contiguous());
        let (inner, all) = (g.shape()[1], Threads::All);
        let [want_x, want_g, want_u, want_w, want_added] = wanted;
        // The gated product for the gradient of W, and then the gradient of `x G` in its place.
        let mut mixed = uninit::zeros(gate.len());
        let dw = want_w.then(|| {
            swiglu::forward(gate, up, &mut mixed);
            let dw = product(matrix(&mixed, inner).t(), rows(&dy), all);
            flex_tensor(dw, w.shape())
        });
        let mut dup = product(rows(&dy), rows(&w).t(), all);
        swiglu::backward(gate, up, &mut mixed, &mut dup);
        let (dgate, dup) = (matrix(&mixed, inner), matrix(&dup, inner));
        let dg = want_g.then(|| flex_tensor(product(rows(&x).t(), dgate, all), g.shape()));
        let du = want_u.then(|| flex_tensor(product(rows(&x).t(), dup, all), u.shape()));
        let dx = want_x.then(|| {
            let mut dx = product(dgate, rows(&g).t(), all);
            product_into(&mut dx, dup, rows(&u).t(), true, all);
            flex_tensor(dx, x.shape())
        });
        [dx, dg, du, dw, want_added.then_some(dadded)]
    }
}

fn matrix(x: &[f32], width: usize) -> View<'_> {
    View::new(x, x.len() / width.max(1), width)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, activation};

    use super::*;
    use crate::testing::*;

    #[test]
    fn gated_mlp_gradients_match_composed_form_and_central_differences() {
        let device = Device::flex().autodiff();
        let (n, d, i) = (6, 4, 7);
        let sizes = [n * d, d * i, d * i, i * d, n * d];
        let inputs = (0..).zip(sizes).map(|(salt, size)| values(size, salt + 1));
        let inputs = rounded(inputs.collect());
        let weights = rounded(vec![values(n * d, 9)]).remove(0);
        let run = |tracked: [bool; 5], fused: bool| {
            let x = tensor(&inputs[0], [2, n / 2, d], &device).set_require_grad(tracked[0]);
            let g = tensor(&inputs[1], [d, i], &device).set_require_grad(tracked[1]);
            let u = tensor(&inputs[2], [d, i], &device).set_require_grad(tracked[2]);
            let w = tensor(&inputs[3], [i, d], &device).set_require_grad(tracked[3]);
            let added = tensor(&inputs[4], [2, n / 2, d], &device).set_require_grad(tracked[4]);
            let matrices = [g.clone(), u.clone(), w.clone()];
            let y = if fused {
                gated_mlp(x.clone(), matrices, added.clone())
            } else {
                let [g, u, w] = matrices.map(|m| m.unsqueeze::<3>());
                let mixed = activation::silu(x.clone().matmul(g)) * x.clone().matmul(u);
                added.clone() + mixed.matmul(w)
            };
            let grads = (y * tensor(&weights, [2, n / 2, d], &device))
                .sum()
                .backward();
            [
                x.grad(&grads).map(numbers),
                g.grad(&grads).map(numbers),
                u.grad(&grads).map(numbers),
                w.grad(&grads).map(numbers),
                added.grad(&grads).map(numbers),
            ]
        };
        let all = run([true; 5], true);
        for (a, b) in all.iter().zip(run([true; 5], false)) {
            close(a.as_ref().unwrap(), &b.unwrap(), 1e-5, "gated mlp");
        }
        // What is frozen gets no gradient, and the rest the same as before.
        for tracked in [
            [true, false, false, false, true],
            [false, true, false, true, false],
        ] {
            for (i, (some, all)) in run(tracked, true).iter().zip(&all).enumerate() {
                let expected = tracked[i].then(|| all.clone().unwrap());
                assert_eq!(some, &expected, "{i}");
            }
        }
        for (which, got) in all.iter().enumerate() {
            check_differences(&inputs, which, got.as_ref().unwrap(), &|inputs| {
                let mut total = 0.0;
                for row in 0..n {
                    let x = &inputs[0][row * d..][..d];
                    let through =
                        |m: &[f64], j: usize| -> f64 { (0..d).map(|k| x[k] * m[k * i + j]).sum() };
                    let mixed = |j: usize| {
                        let gate = through(&inputs[1], j);
                        gate / (1.0 + (-gate).exp()) * through(&inputs[2], j)
                    };
                    for column in 0..d {
                        let down: f64 = (0..i).map(|j| mixed(j) * inputs[3][j * d + column]).sum();
                        let at = row * d + column;
                        total += (inputs[4][at] + down) * weights[at];
                    }
                }
                total
            });
        }
    }
}
