//! A running average of the weights (Polyak averaging), often better than the last ones.
//!
//! After update t the average moves towards the weights by 1 − d, with
//! d = min(`ema_decay`, (1 + t) / (10 + t)), so that the random start is soon forgotten.
//! Frozen weights are left as they are.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use retort_model::Decoder;

/// The average after update `step` (from 1) of a run with decay `decay`: `average` moved
/// towards `model`. Both have the same parameters; `average` is without autodiff.
pub fn moved(average: Decoder, model: &Decoder, decay: f64, step: u64) -> Decoder {
    let step = step as f64;
    let keep = decay.min((1.0 + step) / (10.0 + step));
    let mut trained = Trained(GradientsParams::new());
    model.visit(&mut trained);
    average.map(&mut Move {
        towards: trained.0,
        keep,
    })
}

/// Burn's container of tensors by parameter.
struct Trained(GradientsParams);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            self.0.register(param.id, value.inner());
        }
    }
}

struct Move {
    towards: GradientsParams,
    keep: f64,
}

impl ModuleMapper for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id: ParamId = param.id;
        match self.towards.remove::<D>(id) {
            Some(value) => param
                .map(|average| average.mul_scalar(self.keep) + value.mul_scalar(1.0 - self.keep)),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::tests::model;

    struct Set(f32);
    impl ModuleMapper for Set {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val().inner().zeros_like() + self.0;
            Param::initialized(param.id, value.autodiff().require_grad())
        }
    }

    fn first(model: &Decoder) -> f32 {
        let values = model.norm.gamma.val().into_data();
        values.try_into_vec::<f32>().unwrap()[0]
    }

    #[test]
    fn ema_follows_slowly_once_it_has_caught_up() {
        let mut average = model().map(&mut Set(0.0)).valid();
        let target = model().map(&mut Set(1.0));
        average = moved(average, &target, 0.9, 1);
        let early = 1.0 - 2.0 / 11.0;
        assert!(
            (first(&average) - early).abs() < 1e-6,
            "{}",
            first(&average)
        );
        average = moved(average, &target, 0.9, 1000);
        let late = early * 0.9 + 0.1;
        assert!((first(&average) - late).abs() < 1e-6, "{}", first(&average));
        assert!(!average.norm.gamma.val().device().is_autodiff());
    }

    #[test]
    fn ema_leaves_frozen_weights() {
        let average = model().map(&mut Set(0.0)).valid();
        let frozen = model().map(&mut Set(1.0)).no_grad();
        assert_eq!(first(&moved(average, &frozen, 0.9, 1)), 0.0);
    }
}
