//! AdamW's step (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) in one pass over
//! weights, gradient and moments, in place and on all cores, on the CPU device; on others
//! Burn's own, whose states are the same.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
//! w ← w (1 − lr · decay) − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
//! ```

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;

/// The optimizer of some parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub decay: f32,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    optimizer: AdamW,
    lr: f32,
    /// 1 − lr · decay.
    kept: f32,
    /// 1 − β₁ᵗ and 1 − β₂ᵗ.
    corrections: [f32; 2],
}

#[backend_extension(Flex)]
trait AdamWStep: Backend {
    /// The new weights and moments.
    fn adamw_step(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: Step,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Elements that one task does.
const PART: usize = 1 << 15;

impl AdamWStep for Flex {
    fn adamw_step(
        weights: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: Step,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        // Whole storages: a tensor that nobody else holds gives its own, another is copied.
        let whole = |x: FlexTensor| x.to_contiguous();
        let [mut weights, gradient, mut first, mut second] =
            [weights, gradient, first, second].map(whole);
        let outs = weights
            .storage_mut::<f32>()
            .par_chunks_mut(PART)
            .zip(first.storage_mut::<f32>().par_chunks_mut(PART))
            .zip(second.storage_mut::<f32>().par_chunks_mut(PART));
        let parts = outs.zip(gradient.storage::<f32>().par_chunks(PART));
        parts.for_each(|(((weights, first), second), gradient)| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || step.apply(weights, gradient, first, second),
            );
        });
        (weights, first, second)
    }
}

impl Step {
    #[inline(always)]
    fn apply(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let AdamW {
            beta1,
            beta2,
            epsilon,
            ..
        } = self.optimizer;
        let [correction1, correction2] = self.corrections;
        let moments = first.iter_mut().zip(second);
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            *m = *m * beta1 + g * (1.0 - beta1);
            *v = *v * beta2 + g * g * (1.0 - beta2);
            let delta = (*m / correction1) / ((*v / correction2).sqrt() + epsilon);
            *w = *w * self.kept - delta * self.lr;
        }
    }
}

impl AdamW {
    fn burn(&self) -> burn::optim::AdamW {
        AdamWConfig::new()
            .with_beta_1(self.beta1)
            .with_beta_2(self.beta2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.decay)
            .build()
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let plain = [&tensor, &grad].iter().all(|t| t.dtype() == DType::F32);
        if tensor.device() != Device::flex() || !plain {
            return self.burn().step(lr, tensor, grad, state);
        }
        let (time, first, second) = match state {
            Some(AdamWState { momentum: m }) => (m.time + 1, m.moment_1, m.moment_2),
            None => (1, grad.zeros_like(), grad.zeros_like()),
        };
        let correction = |beta: f32| 1.0 - beta.powi(time as i32);
        let step = Step {
            optimizer: *self,
            lr: lr as f32,
            kept: (1.0 - lr * f64::from(self.decay)) as f32,
            corrections: [correction(self.beta1), correction(self.beta2)],
        };
        let (weights, first, second) = Dispatch::adamw_step(
            tensor.into_dispatch(),
            grad.into_dispatch(),
            first.into_dispatch(),
            second.into_dispatch(),
            step,
        );
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: Tensor::from_dispatch(first),
            moment_2: Tensor::from_dispatch(second),
            max_moment_2: None,
        };
        (
            Tensor::from_dispatch(weights),
            Some(AdamWState { momentum }),
        )
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        <burn::optim::AdamW as Optimizer>::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn tensor(values: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len() / 4, 4]),
            device,
        )
    }

    fn numbers(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_into_vec().unwrap()
    }

    /// Ten steps against the formula in f64 and against Burn's optimizer.
    #[test]
    fn adamw_steps_equal_the_formula_and_burns() {
        let device = Device::flex();
        let n = 3 * PART + 20;
        let number =
            |i: usize, salt: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.0 - 1.0;
        let start: Vec<f32> = (0..n).map(|i| number(i, 0)).collect();
        let optimizer = AdamW {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            decay: 0.1,
        };
        let mut exact: Vec<[f64; 3]> = start.iter().map(|&w| [f64::from(w), 0.0, 0.0]).collect();
        let (mut ours, mut burns) = (tensor(&start, &device), tensor(&start, &device));
        let (mut our_state, mut burn_state) = (None, None);
        for step in 1..=10 {
            let lr = 1e-2 / step as f64;
            let gradient: Vec<f32> = (0..n).map(|i| number(i, step)).collect();
            let grad = tensor(&gradient, &device);
            (ours, our_state) = optimizer.step(lr, ours, grad.clone(), our_state);
            (burns, burn_state) = optimizer.burn().step(lr, burns, grad, burn_state);
            for ([w, m, v], g) in exact.iter_mut().zip(&gradient) {
                let g = f64::from(*g);
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                let t = step as i32;
                let delta =
                    *m / (1.0 - 0.9f64.powi(t)) / ((*v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-8);
                *w = *w * (1.0 - lr * 0.1) - lr * delta;
            }
        }
        let (ours, burns) = (numbers(ours), numbers(burns));
        for i in 0..n {
            assert!((f64::from(ours[i]) - exact[i][0]).abs() < 1e-6, "{i}");
            assert!((ours[i] - burns[i]).abs() < 1e-6, "{i}");
        }
        let [ours, burns] = [our_state, burn_state].map(|s| s.unwrap().momentum);
        assert_eq!(ours.time, burns.time);
        let pairs = [
            (ours.moment_1, burns.moment_1),
            (ours.moment_2, burns.moment_2),
        ];
        for (a, b) in pairs.map(|(a, b)| (numbers(a), numbers(b))) {
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn adamw_does_not_change_shared_tensors() {
        let device = Device::flex();
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let (held, grad) = (tensor(&values, &device), tensor(&values, &device));
        let optimizer = AdamW {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            decay: 0.0,
        };
        let (moved, state) = optimizer.step(0.1, held.clone(), grad.clone(), None);
        let before = state.clone().unwrap().momentum.moment_1;
        let (again, _) = optimizer.step(0.1, moved.clone(), grad, state.clone());
        assert_eq!(numbers(held), values);
        assert_ne!(numbers(again), numbers(moved));
        assert_eq!(numbers(before), numbers(state.unwrap().momentum.moment_1));
    }
}
