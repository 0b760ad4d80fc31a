//! Tensors of a model as numbers that can be sent, and back.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use retort_model::Decoder;

/// Numbers by the parameter that they are of.
pub type Numbers = HashMap<ParamId, Vec<f32>>;

/// A parameter that is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    pub id: ParamId,
    /// Its weights.
    pub elements: usize,
    /// The layer that it is in, if it is in one.
    pub layer: Option<usize>,
}

/// The parameters of `model` that are trained, in its own order, which is the same on all ranks.
pub fn trained(model: &Decoder) -> Vec<Trained> {
    let mut visitor = List::default();
    model.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct List {
    path: Vec<String>,
    found: Vec<Trained>,
}

impl ModuleVisitor for List {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            return;
        }
        let layer = match &self.path[..] {
            [list, index, ..] if list == "layers" => index.parse().ok(),
            _ => None,
        };
        self.found.push(Trained {
            id: param.id,
            elements: value.shape().num_elements(),
            layer,
        });
    }
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.try_into_vec().expect("numbers just converted")
}

/// Moves those of `grads` that `wanted` names out of it.
pub fn take(
    model: &Decoder,
    grads: &mut GradientsParams,
    wanted: impl Fn(ParamId) -> bool,
) -> Numbers {
    let mut visitor = Take {
        grads,
        wanted,
        taken: Numbers::new(),
    };
    model.visit(&mut visitor);
    visitor.taken
}

struct Take<'a, F> {
    grads: &'a mut GradientsParams,
    wanted: F,
    taken: Numbers,
}

impl<F: Fn(ParamId) -> bool> ModuleVisitor for Take<'_, F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.wanted)(param.id)
            && let Some(grad) = self.grads.remove::<D>(param.id)
        {
            self.taken.insert(param.id, numbers(grad));
        }
    }
}

/// The parameters that `grads` has something for, in the model's order.
pub fn present(model: &Decoder, grads: &GradientsParams) -> Vec<ParamId> {
    struct Present<'a>(&'a GradientsParams, Vec<ParamId>);
    impl ModuleVisitor for Present<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.get::<D>(param.id).is_some() {
                self.1.push(param.id);
            }
        }
    }
    let mut visitor = Present(grads, Vec::new());
    model.visit(&mut visitor);
    visitor.1
}

/// `numbers` as gradients of `model`.
pub fn gradients(model: &Decoder, numbers: Numbers) -> GradientsParams {
    struct Give(Numbers, GradientsParams);
    impl ModuleVisitor for Give {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(numbers) = self.0.remove(&param.id) {
                let like = param.val().inner();
                let data = TensorData::new(numbers, like.shape());
                self.1
                    .register(param.id, Tensor::<D>::from_data(data, &like.device()));
            }
        }
    }
    let mut visitor = Give(numbers, GradientsParams::new());
    model.visit(&mut visitor);
    visitor.1
}

/// The weights of those parameters that `wanted` names.
pub fn weights(model: &Decoder, wanted: impl Fn(ParamId) -> bool) -> Numbers {
    struct Read<F>(F, Numbers);
    impl<F: Fn(ParamId) -> bool> ModuleVisitor for Read<F> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if (self.0)(param.id) {
                self.1.insert(param.id, numbers(param.val().inner()));
            }
        }
    }
    let mut visitor = Read(wanted, Numbers::new());
    model.visit(&mut visitor);
    visitor.1
}

/// `model` with the weights that `numbers` has; the others stay.
pub fn with_weights(model: Decoder, numbers: Numbers) -> Decoder {
    model.map(&mut Set(numbers))
}

struct Set(Numbers);

impl ModuleMapper for Set {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(numbers) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|old| {
            let data = TensorData::new(numbers, old.shape());
            let trained = old.is_require_grad();
            let new = Tensor::from_data(data, &old.device());
            match trained {
                true => new.require_grad(),
                false => new,
            }
        })
    }
}

/// CRC-32C of all weights of `model`, in its order.
pub fn checksum(model: &Decoder) -> u32 {
    struct Sum(u32);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let numbers = numbers(param.val().inner());
            self.0 = crc32c::crc32c_append(self.0, bytemuck::cast_slice(&numbers));
        }
    }
    let mut visitor = Sum(0);
    model.visit(&mut visitor);
    visitor.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::tests::{grads, model};

    #[test]
    fn gradients_and_weights_come_back_as_they_went() {
        let model = model();
        let all = trained(&model);
        assert_eq!(all.iter().filter(|t| t.layer == Some(1)).count(), 9);
        assert_eq!(all.iter().filter(|t| t.layer.is_none()).count(), 3);
        let mut found = grads(&model);
        assert_eq!(present(&model, &found).len(), all.len());
        let taken = take(&model, &mut found, |id| id != all[0].id);
        assert_eq!(present(&model, &found), [all[0].id]);
        let given = gradients(&model, taken.clone());
        assert_eq!(take(&model, &mut { given }, |_| true), taken);

        let before = weights(&model, |_| true);
        let mut doubled = before.clone();
        doubled.values_mut().flatten().for_each(|x| *x *= 2.0);
        let sum = checksum(&model);
        let model = with_weights(model, doubled.clone());
        assert_eq!(weights(&model, |_| true), doubled);
        assert_ne!(checksum(&model), sum);
        assert_eq!(trained(&model), all);
        assert_eq!(checksum(&with_weights(model, before)), sum);
    }
}
