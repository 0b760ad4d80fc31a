//! What a run minimises. The loop hands over a model and a batch and gets a scalar.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::Batch;
use retort_model::{Decoder, Documents};

use crate::error::Result;
use crate::pass;

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
    /// The place of the first row in the sequence of training rows; none of made-up ones.
    pub first_row: Option<u64>,
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
            first_row: batch.first_row,
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
    /// The loss of `model` on `batch`, for which its last layer gives `hidden` `[B, T, D]`.
    ///
    /// # Errors
    /// Whatever keeps it from its targets, as [`Error::objective`](crate::Error::objective).
    fn loss(&self, model: &Decoder, hidden: Tensor<3>, batch: &BatchTensors) -> Result<Loss>;

    /// What the update after `step` of them is made of in place of `batches`, if not of those.
    ///
    /// # Errors
    /// Whatever keeps it from making them.
    fn batches(
        &self,
        _model: &Decoder,
        _batches: &[&Batch],
        _step: u64,
    ) -> Result<Option<Vec<Batch>>> {
        Ok(None)
    }

    /// Runs `model` forward and backward over `batch`, `sparing` memory a layer at a time; the
    /// gradients go to `take`, in as many parts as they come. An objective that looks at more
    /// than the last layer does so here.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    fn backward(
        &self,
        model: &Decoder,
        batch: &BatchTensors,
        sparing: bool,
        take: &mut dyn FnMut(GradientsParams),
    ) -> Result<Loss> {
        pass::backward(self, model, batch, sparing, take)
    }

    /// Shapes `[in, out]` of the matrices that are trained beside the model
    /// ([`Decoder::with_projections`]), under AdamW without decay.
    fn beside(&self) -> Vec<[usize; 2]> {
        Vec::new()
    }

    /// What is special about the update after `step` of them.
    fn turn(&self, _step: u64) -> Turn {
        Turn::default()
    }
}

/// How an update differs from those before it. It may depend on the step alone, so that a
/// resumed run repeats it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// A multiple of the schedule's learning rate.
    pub lr_scale: f64,
    /// Another loss begins: the optimizer's moments and the guard's mean begin anew.
    pub fresh: bool,
}

impl Default for Turn {
    /// Nothing.
    fn default() -> Self {
        Self {
            lr_scale: 1.0,
            fresh: false,
        }
    }
}

/// Next-token cross entropy: the objective of pretraining.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn loss(&self, model: &Decoder, hidden: Tensor<3>, batch: &BatchTensors) -> Result<Loss> {
        Ok(Loss {
            total: batch.cross_entropy(model, hidden),
            parts: Vec::new(),
        })
    }
}
