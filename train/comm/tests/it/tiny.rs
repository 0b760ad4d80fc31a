//! A module of five small parameters, two of them in each of two layers, and a gradient.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
pub struct Layer {
    up: Param<Tensor<2>>,
    norm: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
pub struct Tiny {
    embedding: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: Param<Tensor<1>>,
}

/// The same weights and ids at every call, as ranks build the same model.
pub fn model() -> Tiny {
    let device = Device::flex().autodiff();
    let count = std::cell::Cell::new(0u64);
    let id = || {
        count.set(count.get() + 1);
        burn::module::ParamId::from(count.get())
    };
    fn filled<const D: usize>(shape: [usize; D], first: u64, device: &Device) -> Tensor<D> {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 + first as f32) / 7.0).collect();
        let data = burn::tensor::TensorData::new(values, shape);
        Tensor::from_data(data, device).require_grad()
    }
    let matrix = |shape: [usize; 2]| {
        let id = id();
        Param::initialized(id, filled(shape, id.val(), &device))
    };
    let vector = |n: usize| {
        let id = id();
        Param::initialized(id, filled([n], id.val(), &device))
    };
    Tiny {
        embedding: matrix([5, 4]),
        layers: (0..2)
            .map(|_| Layer {
                up: matrix([4, 3]),
                norm: vector(4),
            })
            .collect(),
        norm: vector(4),
    }
}

/// The gradients of half the sum of all squares: the weights themselves.
pub fn grads(model: &Tiny) -> GradientsParams {
    let half = |x: Tensor<1>| x / 2.0;
    let square = |x: &Param<Tensor<2>>| half(x.val().square().sum());
    let of_vector = |x: &Param<Tensor<1>>| half(x.val().square().sum());
    let mut loss = square(&model.embedding) + of_vector(&model.norm);
    for layer in &model.layers {
        loss = loss + square(&layer.up) + of_vector(&layer.norm);
    }
    GradientsParams::from_grads(loss.backward(), model)
}
