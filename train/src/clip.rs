//! Clipping by the norm of all gradients together (Pascanu et al., arXiv 1211.5063,
//! algorithm 1).
//!
//! On the CPU device a gradient's squares are summed on all cores, and scaled in place;
//! sums are kept in f64 and in one order, so that neither the number of threads nor the
//! width of the processor's vectors moves the norm, and with it every weight.

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, DType, Device, Shape, Tensor};
use rayon::prelude::*;
use retort_model::Decoder;

/// Elements that one task does.
const PART: usize = 1 << 15;
/// Lanes that a task's sums are kept in.
const LANES: usize = 16;

#[backend_extension(Flex)]
trait ClipOps: Backend {
    /// Σ x², `[1]`.
    fn sum_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// x · by.
    fn scaled(x: FloatTensor<Self>, by: f32) -> FloatTensor<Self>;
}

impl ClipOps for Flex {
    fn sum_squares(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let part = |part: &[f32]| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || sum_squares(part),
            )
        };
        let sums: Vec<f64> = x.storage::<f32>().par_chunks(PART).map(part).collect();
        let sum = sums.iter().sum::<f64>() as f32;
        let layout = Layout::contiguous(Shape::new([1]));
        FlexTensor::new(Bytes::from_elems(vec![sum]), layout, DType::F32)
    }

    fn scaled(x: FlexTensor, by: f32) -> FlexTensor {
        // The whole storage: the tensor's own if nobody else holds it.
        let mut x = {
            let held = x;
            held.to_contiguous()
        };
        let parts = x.storage_mut::<f32>().par_chunks_mut(PART);
        parts.for_each(|part| {
            for x in part {
                *x *= by;
            }
        });
        x
    }
}

#[inline(always)]
fn sum_squares(x: &[f32]) -> f64 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f64; LANES];
    for part in whole {
        for i in 0..LANES {
            lanes[i] += f64::from(part[i]) * f64::from(part[i]);
        }
    }
    let last = rest.iter().map(|&x| f64::from(x) * f64::from(x));
    lanes.iter().sum::<f64>() + last.sum::<f64>()
}

fn fused<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// Scales all gradients by `factor` and by `max_norm / norm` where the scaled norm
/// exceeds `max_norm` (0: never). Answers the norm before clipping.
pub fn clip(
    model: &Decoder,
    grads: GradientsParams,
    factor: f64,
    max_norm: f64,
) -> (GradientsParams, f64) {
    let total: f64 = squares(model, &grads).into_iter().map(f64::from).sum();
    let norm = total.sqrt() * factor;
    (clip_to(model, grads, factor, (norm, max_norm)), norm)
}

/// Scales all gradients by `factor` and by `max_norm / norm` where `norm`, that of all gradients
/// after the scaling, exceeds `max_norm` (0: never).
pub(crate) fn clip_to(
    model: &Decoder,
    grads: GradientsParams,
    factor: f64,
    (norm, max_norm): (f64, f64),
) -> GradientsParams {
    let clip = if max_norm > 0.0 && norm > max_norm {
        max_norm / norm
    } else {
        1.0
    };
    if factor * clip == 1.0 {
        return grads;
    }
    let mut scale = Scale {
        from: grads,
        to: GradientsParams::new(),
        factor: factor * clip,
    };
    model.visit(&mut scale);
    scale.to
}

/// The sum of squares of each gradient, in the order of `model`'s parameters.
pub(crate) fn squares(model: &Decoder, grads: &GradientsParams) -> Vec<f32> {
    let mut squares = SumSquares {
        grads,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    // One transfer for all of them.
    if squares.sums.is_empty() {
        return Vec::new();
    }
    let squares = Tensor::cat(squares.sums, 0).into_data();
    squares.iter::<f32>().collect()
}

struct SumSquares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SumSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.get::<D>(param.id) else {
            return;
        };
        self.sums.push(if fused(&grad) {
            Tensor::from_dispatch(Dispatch::sum_squares(grad.into_dispatch()))
        } else {
            grad.square().sum()
        });
    }
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.from.remove::<D>(param.id) else {
            return;
        };
        let scaled = if fused(&grad) {
            let grad = Dispatch::scaled(grad.into_dispatch(), self.factor as f32);
            Tensor::<D>::from_dispatch(grad)
        } else {
            grad.mul_scalar(self.factor)
        };
        self.to.register(param.id, scaled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::tests::{grads, model};

    #[test]
    fn clip_scales_to_the_norm_of_all_gradients() {
        let model = model();
        let (_, norm) = clip(&model, grads(&model), 1.0, 0.0);
        assert!(norm > 0.0);
        let (clipped, before) = clip(&model, grads(&model), 1.0, norm / 4.0);
        assert!((before - norm).abs() < 1e-6 * norm);
        let (_, after) = clip(&model, clipped, 1.0, 0.0);
        assert!((after - norm / 4.0).abs() < 1e-5 * norm, "{after} {norm}");
    }

    #[test]
    fn clip_norm_equals_plain_sums() {
        let model = model();
        let found = grads(&model);
        struct Plain<'a>(&'a GradientsParams, f64);
        impl ModuleVisitor for Plain<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let grad = self.0.get::<D>(param.id).unwrap().into_data();
                self.1 += grad
                    .iter::<f32>()
                    .map(|x| f64::from(x).powi(2))
                    .sum::<f64>();
            }
        }
        let mut plain = Plain(&found, 0.0);
        model.visit(&mut plain);
        let plain = plain.1.sqrt();
        let (_, norm) = clip(&model, found, 1.0, 0.0);
        assert!((norm - plain).abs() < 1e-6 * plain, "{norm} {plain}");
    }
}
