//! What a run minimises. The loop hands over a model and a batch and gets a scalar.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use retort_data::Batch;
use retort_model::Decoder;

/// A batch on a device.
#[derive(Clone, Debug)]
pub struct BatchTensors {
    /// Token ids `[B, T]`.
    pub inputs: Tensor<2, Int>,
    /// The ids that follow, `[B, T]`.
    pub targets: Tensor<2, Int>,
}

impl BatchTensors {
    /// Copies `batch` to `device`.
    pub fn new(batch: &Batch, device: &Device) -> Self {
        let shape = [batch.rows, batch.seq_len];
        let put = |ids: &[i32]| Tensor::from_data(TensorData::new(ids.to_vec(), shape), device);
        Self {
            inputs: put(&batch.inputs),
            targets: put(&batch.targets),
        }
    }
}

/// A loss, and figures worth writing beside it.
#[derive(Debug)]
pub struct Loss {
    /// What is differentiated: a mean over the batch's positions, in nats.
    pub total: Tensor<1>,
    /// Named parts, each a scalar, for `metrics.jsonl`.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

/// Where targets come from.
pub trait Objective {
    /// The loss of `model` on `batch`.
    fn loss(&self, model: &Decoder, batch: &BatchTensors) -> Loss;
}

/// Next-token cross entropy: the objective of pretraining.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn loss(&self, model: &Decoder, batch: &BatchTensors) -> Loss {
        let logits = model.forward(batch.inputs.clone());
        Loss {
            total: cross_entropy(logits, batch.targets.clone()),
            parts: Vec::new(),
        }
    }
}

/// Mean of −log softmax(logits)\[target\] in nats; logits `[B, T, V]`, targets `[B, T]`.
pub fn cross_entropy(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
    let [b, t, v] = logits.dims();
    let log_probs = activation::log_softmax(logits.reshape([b * t, v]), 1);
    log_probs
        .gather(1, targets.reshape([b * t, 1]))
        .mean()
        .neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences on the logits against the gradient that training uses.
    #[test]
    fn cross_entropy_gradient_matches_finite_differences() {
        let device = Device::flex().autodiff();
        let values: Vec<f32> = (0..2 * 3 * 5)
            .map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0)
            .collect();
        let targets = Tensor::<2, Int>::from_data(
            TensorData::new(vec![0i32, 4, 2, 1, 3, 3], [2, 3]),
            &device,
        );
        let loss_of = |v: &[f32]| {
            let x = Tensor::<3>::from_data(TensorData::new(v.to_vec(), [2, 3, 5]), &device);
            let x = x.require_grad();
            (cross_entropy(x.clone(), targets.clone()), x)
        };
        let (loss, x) = loss_of(&values);
        let grads = loss.backward();
        let grad = x
            .grad(&grads)
            .unwrap()
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        for i in 0..values.len() {
            let at = |delta: f32| {
                let mut v = values.clone();
                v[i] += delta;
                loss_of(&v).0.into_scalar::<f32>()
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!(
                (numeric - grad[i]).abs() < 2e-4,
                "{i}: {numeric} {}",
                grad[i]
            );
        }
    }
}
