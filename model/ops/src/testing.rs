//! What the operations' tests share: numbers, and gradients compared with a composed form or with
//! central differences of a definition in f64.

use burn::module::{Param, ParamId};
use burn::nn::RmsNorm;
use burn::tensor::{Device, Tensor, TensorData};
use retort_test_kit::Random;

/// Random numbers from -1 to 1.
pub(crate) fn values(n: usize, salt: u64) -> Vec<f64> {
    Random::new(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).f64s(n)
}

pub(crate) fn tensor<const D: usize>(
    values: &[f64],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Values and gradients of `loss`, given its inputs, under a device with autodiff.
pub(crate) fn gradients<const D: usize>(
    inputs: &[Tensor<D>],
    loss: impl FnOnce(&[Tensor<D>]) -> Tensor<1>,
) -> (f32, Vec<Vec<f32>>) {
    let inputs: Vec<_> = inputs.iter().map(|x| x.clone().require_grad()).collect();
    let loss = loss(&inputs);
    let grads = loss.backward();
    let of = |x: &Tensor<D>| numbers(x.grad(&grads).unwrap());
    (loss.into_scalar(), inputs.iter().map(of).collect())
}

pub(crate) fn close(a: &[f32], b: &[f32], bound: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = b.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= bound * largest, "{what} {i}: {a} {b}");
    }
}

/// `got` against central differences of `loss` in f64 with respect to input `which`.
pub(crate) fn check_differences(
    inputs: &[Vec<f64>],
    which: usize,
    got: &[f32],
    loss: &dyn Fn(&[Vec<f64>]) -> f64,
) {
    const H: f64 = 1e-5;
    let mut moved = inputs.to_vec();
    let largest = got.iter().fold(1f64, |m, x| m.max(f64::from(x.abs())));
    for i in 0..got.len() {
        let mut at = |delta: f64| {
            moved[which][i] = inputs[which][i] + delta;
            loss(&moved)
        };
        let numeric = (at(H) - at(-H)) / (2.0 * H);
        moved[which][i] = inputs[which][i];
        let error = (numeric - f64::from(got[i])).abs();
        assert!(error < 2e-5 * largest, "{which} {i}: {numeric} {}", got[i]);
    }
}

/// What was rounded to f32 for the operation, as f64 for its definition.
pub(crate) fn rounded(inputs: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let round = |x: Vec<f64>| x.into_iter().map(|x| f64::from(x as f32)).collect();
    inputs.into_iter().map(round).collect()
}

pub(crate) fn norm(w: &[f64], device: &Device) -> RmsNorm {
    RmsNorm {
        gamma: Param::initialized(ParamId::from(1), tensor(w, [w.len()], device)),
        epsilon: 1e-5,
    }
}
