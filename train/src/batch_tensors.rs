//! A batch of rows on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Batch, BatchSource};
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
    /// Where the rows come from.
    pub source: BatchSource,
    /// Updates before this one.
    pub step: u64,
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
            source: batch.source,
            step: 0,
        }
    }

    /// For the update after `step` of them.
    pub fn at_step(mut self, step: u64) -> Self {
        self.step = step;
        self
    }

    /// Keeps attention within the documents of `batch`, which this is made of, if `keep`.
    pub fn within_documents(mut self, batch: &Batch, keep: bool) -> Self {
        let shape = [batch.rows, batch.seq_len];
        self.documents = keep.then(|| Documents::new(&batch.documents, &batch.positions, shape));
        self
    }

    /// The last layer's output for the batch, `[B, T, D]`.
    pub fn hidden(&self, model: &Decoder) -> Tensor<3> {
        match &self.documents {
            Some(documents) => model.hidden_packed(self.inputs.clone(), documents),
            None => model.hidden(self.inputs.clone()),
        }
    }

    /// What `model` predicts for the batch: logits `[B, T, V]`.
    pub fn logits(&self, model: &Decoder) -> Tensor<3> {
        model.logits(self.hidden(model))
    }

    /// The mean loss in nats, `[1]`, of `model` whose last layer's output for the batch is
    /// `hidden`, without logits of all positions at once where the device can do without.
    pub fn cross_entropy(&self, model: &Decoder, hidden: Tensor<3>) -> Tensor<1> {
        let (targets, weights) = (self.targets.clone(), self.weights.clone());
        model.cross_entropy(hidden, targets, weights)
    }
}
