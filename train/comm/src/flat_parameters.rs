//! Flat parameters: the weights and gradients of a module as lists of numbers that can be sent, and back.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

/// A parameter's numbers in row-major order, by its id.
pub type FlatTensors = HashMap<ParamId, Vec<f32>>;

/// A trained parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainedParameter {
    /// Its id, the same on all ranks.
    pub id: ParamId,
    /// Number of weights.
    pub elements: usize,
    /// The index in the module's list `layers`, if the parameter is in it.
    pub layer: Option<usize>,
}

/// The trained parameters of `model`, in the order of its fields, which is the same on all ranks.
pub fn trained<M: Module>(model: &M) -> Vec<TrainedParameter> {
    let mut visitor = List::default();
    model.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct List {
    path: Vec<String>,
    found: Vec<TrainedParameter>,
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
        self.found.push(TrainedParameter {
            id: param.id,
            elements: value.shape().num_elements(),
            layer,
        });
    }
}

/// The numbers of `parameters`, moved out of `numbers` and concatenated; one that is not there is left out.
pub fn concat<'a>(
    parameters: impl IntoIterator<Item = &'a TrainedParameter>,
    numbers: &mut FlatTensors,
) -> Vec<f32> {
    let each = parameters.into_iter().filter_map(|p| numbers.remove(&p.id));
    each.collect::<Vec<_>>().concat()
}

/// Cuts `flat`, as [`concat`](fn@concat) makes it of all `parameters`, and puts their numbers into `numbers`.
pub fn split<'a>(
    parameters: impl IntoIterator<Item = &'a TrainedParameter>,
    mut flat: &[f32],
    numbers: &mut FlatTensors,
) {
    for parameter in parameters {
        let (these, rest) = flat.split_at(parameter.elements);
        numbers.insert(parameter.id, these.to_vec());
        flat = rest;
    }
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.try_into_vec().expect("numbers just converted")
}

/// Moves the gradients of the `wanted` parameters out of `grads`.
pub fn take<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    wanted: impl Fn(ParamId) -> bool,
) -> FlatTensors {
    let mut visitor = Take {
        grads,
        wanted,
        taken: FlatTensors::new(),
    };
    model.visit(&mut visitor);
    visitor.taken
}

struct Take<'a, F> {
    grads: &'a mut GradientsParams,
    wanted: F,
    taken: FlatTensors,
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

/// The parameters that have a gradient in `grads`, in the model's order.
pub fn present<M: Module>(model: &M, grads: &GradientsParams) -> Vec<ParamId> {
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
pub fn gradients<M: Module>(model: &M, numbers: FlatTensors) -> GradientsParams {
    struct Give(FlatTensors, GradientsParams);
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

/// The weights of the `wanted` parameters.
pub fn weights<M: Module>(model: &M, wanted: impl Fn(ParamId) -> bool) -> FlatTensors {
    struct Read<F>(F, FlatTensors);
    impl<F: Fn(ParamId) -> bool> ModuleVisitor for Read<F> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if (self.0)(param.id) {
                self.1.insert(param.id, numbers(param.val().inner()));
            }
        }
    }
    let mut visitor = Read(wanted, FlatTensors::new());
    model.visit(&mut visitor);
    visitor.1
}

/// `model` with its weights replaced by those in `numbers`; the others stay.
pub fn with_weights<M: Module>(model: M, numbers: FlatTensors) -> M {
    model.map(&mut Set(numbers))
}

struct Set(FlatTensors);

impl ModuleMapper for Set {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(numbers) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|old| {
            let data = TensorData::new(numbers, old.shape());
            let trained = old.is_require_grad();
            let new = Tensor::from_data(data, &old.device());
            if trained { new.require_grad() } else { new }
        })
    }
}

/// CRC-32C of all weights of `model`, in the order of its fields.
pub fn checksum<M: Module>(model: &M) -> u32 {
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
