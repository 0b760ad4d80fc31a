//! RMSNorm (Zhang and Sennrich, arXiv 1910.07467): `y = x / √(mean(x²) + ε) · w` over rows
//! `x` `[N, D]` with weights `w` `[D]`, and its gradient.
//!
//! With r = 1 / √(mean(x²) + ε): `dw = Σ dy · x · r` over the rows, and
//! `dx = r · (dy · w − x · r² · mean(dy · w · x))`.

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::nn;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::device::fused;
use crate::flex::{contiguous, filled, flex_tensor};
use crate::operation::{Apply, Operation};
use crate::simd::{dot, dot3, simd};

/// `x` `[.., D]` normalized over its last dimension with the weights and epsilon of `norm`; in the
/// precision of `x`.
pub fn rms_norm<const D: usize>(norm: &nn::RmsNorm, x: Tensor<D>) -> Tensor<D> {
    let w = norm.gamma.val();
    if !(fused(&x) && fused(&w)) {
        let dtype = x.dtype();
        return norm.forward(x.cast(w.dtype())).cast(dtype);
    }
    let epsilon = norm.epsilon as f32;
    let (x, w) = (x.into_dispatch(), w.into_dispatch());
    Tensor::from_dispatch(Dispatch::binary(RmsNorm { epsilon }, x, w))
}

#[derive(Debug)]
struct RmsNorm {
    epsilon: f32,
}

impl Operation<2> for RmsNorm {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], _: bool) -> (FlexTensor, Self::Saved) {
        let [x, w] = contiguous(inputs.clone());
        let y = filled(&x, |y| forward(x.storage(), w.storage(), self.epsilon, y));
        (y, inputs)
    }

    fn backward(
        &self,
        inputs: [FlexTensor; 2],
        dy: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [x, w] = contiguous(inputs);
        let dy = dy.to_contiguous();
        let mut dw = Vec::new();
        let dx = filled(&x, |dx| {
            let [x, w, dy] = [x.storage(), w.storage(), dy.storage()];
            dw = backward(x, w, dy, self.epsilon, dx);
        });
        [dx, flex_tensor(dw, w.shape())].map(Some)
    }
}

/// Rows that one task does.
const ROWS: usize = 64;

#[inline(always)]
fn inverse(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// Fills `y`, of the size of `x`.
fn forward(x: &[f32], w: &[f32], epsilon: f32, y: &mut [f32]) {
    let d = w.len().max(1);
    let chunks = y.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d));
    chunks.for_each(|(y, x)| {
        simd!({
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                let r = inverse(x, epsilon);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * r * w;
                }
            }
        })
    });
}

/// Fills `dx`, of the size of `x`, and returns `dw`. Rows are summed in their order, whatever the
/// number of threads.
fn backward(x: &[f32], w: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32]) -> Vec<f32> {
    let d = w.len().max(1);
    let chunks = dx.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d));
    let parts: Vec<Vec<f32>> = chunks
        .zip(dy.par_chunks(ROWS * d))
        .map(|((dx, x), dy)| {
            let mut dw = vec![0f32; d];
            simd!({
                let rows = x.chunks_exact(d).zip(dy.chunks_exact(d));
                for (dx, (x, dy)) in dx.chunks_exact_mut(d).zip(rows) {
                    row_backward(x, w, dy, epsilon, dx, &mut dw);
                }
            });
            dw
        })
        .collect();
    let mut dw = vec![0f32; w.len()];
    for part in &parts {
        for (total, part) in dw.iter_mut().zip(part) {
            *total += part;
        }
    }
    dw
}

#[inline(always)]
fn row_backward(x: &[f32], w: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32], dw: &mut [f32]) {
    let d = x.len();
    let (w, dy, dx, dw) = (&w[..d], &dy[..d], &mut dx[..d], &mut dw[..d]);
    let r = inverse(x, epsilon);
    let mean = dot3(dy, w, x) / d as f32;
    let back = mean * r * r * r;
    for i in 0..d {
        dx[i] = dy[i] * w[i] * r - x[i] * back;
        dw[i] += dy[i] * x[i] * r;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::*;

    #[test]
    fn rms_norm_gradients_match_composed_form_and_central_differences() {
        let device = Device::flex().autodiff();
        for (n, d) in [(3, 7), (200, 40)] {
            let inputs = rounded(vec![values(n * d, 1), values(d, 2)]);
            let weights = rounded(vec![values(n * d, 3)]).remove(0);
            let mut norm = norm(&inputs[1], &device);
            norm.gamma = norm.gamma.set_require_grad(true);
            let run = |fused: bool| {
                let x = tensor(&inputs[0], [n, d], &device).require_grad();
                let y = if fused {
                    rms_norm(&norm, x.clone())
                } else {
                    norm.forward(x.clone())
                };
                let loss = (y.clone() * tensor(&weights, [n, d], &device)).sum();
                let grads = loss.backward();
                let dw = norm.gamma.val().grad(&grads).unwrap();
                [numbers(y), numbers(x.grad(&grads).unwrap()), numbers(dw)]
            };
            let (fused, composed) = (run(true), run(false));
            for (a, b) in fused.iter().zip(&composed) {
                close(a, b, 1e-5, "rms_norm");
            }
            if n > 3 {
                continue;
            }
            for which in 0..2 {
                check_differences(&inputs, which, &fused[1 + which], &|inputs| {
                    let rows = inputs[0].chunks(d).zip(weights.chunks(d));
                    rows.map(|(x, weights)| {
                        let mean: f64 = x.iter().map(|x| x * x).sum::<f64>() / d as f64;
                        let r = 1.0 / (mean + 1e-5).sqrt();
                        let terms = x.iter().zip(&inputs[1]).zip(weights);
                        terms
                            .map(|((x, w), weight)| x * r * w * weight)
                            .sum::<f64>()
                    })
                    .sum()
                });
            }
        }
    }
}
