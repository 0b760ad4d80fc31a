//! What a run minimises. The loop hands over a model and a batch and gets a scalar.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use retort_data::Batch;
use retort_model::{Decoder, Documents};

/// A batch on a device.
#[derive(Clone, Debug)]
pub struct BatchTensors {
    /// Token ids `[B, T]`.
    pub inputs: Tensor<2, Int>,
    /// The ids that follow, `[B, T]`; 0 where there is none.
    pub targets: Tensor<2, Int>,
    /// What each position weighs in the mean, `[B, T]`; 0 where there is no target.
    pub weights: Tensor<2>,
    /// Targets in the batch.
    pub tokens: usize,
    /// Documents that attention must not cross, where the run keeps to them.
    pub documents: Option<Documents>,
}

impl BatchTensors {
    /// Copies `batch` to `device`; every target weighs the same in a mean over the batch.
    pub fn new(batch: &Batch, device: &Device) -> Self {
        Self::weighted(batch, 1.0 / batch.tokens().max(1) as f32, device)
    }

    /// Copies `batch` to `device`; each of its targets weighs `share`.
    pub fn weighted(batch: &Batch, share: f32, device: &Device) -> Self {
        let shape = [batch.rows, batch.seq_len];
        let put = |ids: Vec<i32>| Tensor::from_data(TensorData::new(ids, shape), device);
        let weight = |&id: &i32| if id == Batch::IGNORE { 0.0 } else { share };
        let weights: Vec<f32> = batch.targets.iter().map(weight).collect();
        Self {
            inputs: put(batch.inputs.clone()),
            targets: put(batch.targets.iter().map(|&id| id.max(0)).collect()),
            weights: Tensor::from_data(TensorData::new(weights, shape), device),
            tokens: batch.tokens(),
            documents: None,
        }
    }

    /// Keeps attention within the documents of `batch`, which this is made of, if `keep`.
    pub fn within_documents(mut self, batch: &Batch, keep: bool) -> Self {
        let shape = [batch.rows, batch.seq_len];
        self.documents = keep.then(|| Documents::new(&batch.documents, &batch.positions, shape));
        self
    }

    /// What `model` predicts for the batch: logits `[B, T, V]`.
    pub fn logits(&self, model: &Decoder) -> Tensor<3> {
        let hidden = match &self.documents {
            Some(documents) => model.hidden_packed(self.inputs.clone(), documents),
            None => model.hidden(self.inputs.clone()),
        };
        model.logits(hidden)
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
        Loss {
            total: cross_entropy(batch.logits(model), batch),
            parts: Vec::new(),
        }
    }
}

/// Mean over the batch's targets, by their weights, of −log softmax(logits)\[target\] in nats; logits `[B, T, V]`.
pub fn cross_entropy(logits: Tensor<3>, batch: &BatchTensors) -> Tensor<1> {
    let [b, t, v] = logits.dims();
    let log_probs = activation::log_softmax(logits.reshape([b * t, v]), 1);
    let of_targets = log_probs.gather(1, batch.targets.clone().reshape([b * t, 1]));
    (of_targets * batch.weights.clone().reshape([b * t, 1]))
        .sum()
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
        let batch = Batch {
            rows: 2,
            seq_len: 3,
            inputs: vec![0; 6],
            targets: vec![0, 4, 2, 1, Batch::IGNORE, Batch::IGNORE],
            documents: vec![0; 6],
            positions: vec![0; 6],
        };
        let batch = BatchTensors::new(&batch, &device);
        assert_eq!(batch.tokens, 4);
        let loss_of = |v: &[f32]| {
            let x = Tensor::<3>::from_data(TensorData::new(v.to_vec(), [2, 3, 5]), &device);
            let x = x.require_grad();
            (cross_entropy(x.clone(), &batch), x)
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
            // Padding has no part in it.
            assert_eq!(grad[i] == 0.0, i >= 4 * 5, "{i}");
        }
    }
}
