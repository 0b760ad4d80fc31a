//! SwiGLU (Shazeer, arXiv 2002.05202): `y = silu(gate) · up`, element by element, and its
//! gradient. With s = sigmoid(gate): `d up = dy · gate · s` and
//! `d gate = dy · up · s · (1 + gate · (1 − s))`.

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use crate::device::fused;
use crate::flex::{contiguous, filled, flex_tensor};
use crate::operation::{Apply, Operation};
use crate::simd::{sigmoid, simd};

/// `silu(gate) · up`, of one shape.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if !fused(&gate) {
        return activation::silu(gate) * up;
    }
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(Dispatch::binary(Swiglu, gate, up))
}

#[derive(Debug)]
struct Swiglu;

impl Operation<2> for Swiglu {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], _: bool) -> (FlexTensor, Self::Saved) {
        let [gate, up] = contiguous(inputs.clone());
        let y = filled(&gate, |y| forward(gate.storage(), up.storage(), y));
        (y, inputs)
    }

    fn backward(
        &self,
        inputs: [FlexTensor; 2],
        dy: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [gate, up] = contiguous(inputs);
        let mut dup = dy.to_contiguous().storage::<f32>().to_vec();
        let dgate = filled(&gate, |dgate| {
            backward(gate.storage(), up.storage(), dgate, &mut dup);
        });
        [dgate, flex_tensor(dup, up.shape())].map(Some)
    }
}

/// Elements of one task.
const PART: usize = 1 << 14;

/// Fills `y`; all of one size.
pub(crate) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let parts = y.par_chunks_mut(PART).zip(gate.par_chunks(PART));
    parts.zip(up.par_chunks(PART)).for_each(|((y, gate), up)| {
        simd!({
            for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                *y = g * sigmoid(*g) * u;
            }
        })
    });
}

/// Fills `dgate`, and `dup` in the place of `dy`; all of one size.
pub(crate) fn backward(gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let outs = dgate.par_chunks_mut(PART).zip(dup.par_chunks_mut(PART));
    let ins = gate.par_chunks(PART).zip(up.par_chunks(PART));
    outs.zip(ins).for_each(|((dgate, dup), (gate, up))| {
        simd!({
            let outs = dgate.iter_mut().zip(dup.iter_mut());
            for ((dg, du), (g, u)) in outs.zip(gate.iter().zip(up)) {
                let (s, dy) = (sigmoid(*g), *du);
                *du = dy * g * s;
                *dg = dy * u * s * (1.0 + g * (1.0 - s));
            }
        })
    });
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::*;

    #[test]
    fn swiglu_gradients_match_composed_form_and_central_differences() {
        let device = Device::flex().autodiff();
        for n in [33, 40_000] {
            let four = |x: Vec<f64>| x.iter().map(|x| 4.0 * x).collect();
            let inputs = rounded(vec![four(values(n, 1)), four(values(n, 2))]);
            let weights = rounded(vec![values(n, 3)]).remove(0);
            let tensors: Vec<Tensor<1>> = inputs.iter().map(|x| tensor(x, [n], &device)).collect();
            let weigh = |y: Tensor<1>| (y * tensor(&weights, [n], &device)).sum();
            let fused = gradients(&tensors, |x| weigh(swiglu(x[0].clone(), x[1].clone())));
            let composed = gradients(&tensors, |x| {
                weigh(activation::silu(x[0].clone()) * x[1].clone())
            });
            for (a, b) in fused.1.iter().zip(&composed.1) {
                close(a, b, 1e-5, "swiglu");
            }
            if n > 33 {
                continue;
            }
            for which in 0..2 {
                check_differences(&inputs, which, &fused.1[which], &|inputs| {
                    let terms = inputs[0].iter().zip(&inputs[1]).zip(&weights);
                    terms
                        .map(|((g, u), w)| g / (1.0 + (-g).exp()) * u * w)
                        .sum()
                });
            }
        }
    }
}
