//! What a run minimises: an objective says what it needs of a step, and makes a loss of what the trainer hands it.
//!
//! The trainer owns the forward and backward passes, with or without activation checkpointing (`backward.rs`). For each
//! batch it asks for a [`StepPlan`]: the loss of one forward pass, perhaps with losses of the layers on the way, or
//! blocks of layers that learn by themselves. A teacher's own forward pass belongs to the objective.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;
use retort_data::Batch;
use retort_model::Decoder;

use crate::batch_tensors::BatchTensors;
use crate::error::Result;

/// Where targets come from.
pub trait Objective {
    /// What the trainer computes of `model` for `batch`, and the losses of it.
    ///
    /// # Errors
    /// Whatever keeps it from its targets, as [`Error::objective`](crate::Error::objective).
    fn step_plan<'a>(&'a self, model: &'a Decoder, batch: &'a BatchTensors)
    -> Result<StepPlan<'a>>;

    /// The batches that replace `batches` in the update after `step` others; `None` keeps them.
    ///
    /// # Errors
    /// Whatever keeps it from making them.
    fn replace_batches(
        &self,
        _model: &Decoder,
        _batches: &[&Batch],
        _step: u64,
    ) -> Result<Option<Vec<Batch>>> {
        Ok(None)
    }

    /// Shapes `[in, out]` of the matrices that are trained beside the model
    /// ([`Decoder::with_projections`]), under AdamW without decay.
    fn auxiliary_parameters(&self) -> Vec<[usize; 2]> {
        Vec::new()
    }

    /// How the update after `step` others differs from those before it. It may depend on the step alone, so that a
    /// resumed run repeats it.
    fn update_settings(&self, _step: u64) -> UpdateSettings {
        UpdateSettings::default()
    }
}

/// What the trainer computes for one batch.
pub enum StepPlan<'a> {
    /// One forward pass through the whole model.
    Forward {
        /// The loss of the last layer's normed output `[B, T, D]`.
        output: OutputLoss<'a>,
        /// Losses of layers on the way, which are added to it.
        layers: Option<Box<dyn LayerLosses + 'a>>,
    },
    /// Blocks of layers, each on an input of its own; the gradient of each stays within it.
    Blockwise(Vec<Block<'a>>),
}

/// A loss of the last layer's normed output.
pub type OutputLoss<'a> = Box<dyn FnOnce(Tensor<3>) -> Result<Loss> + 'a>;

impl<'a> StepPlan<'a> {
    /// One forward pass, and a loss of its output alone.
    pub fn output(loss: impl FnOnce(Tensor<3>) -> Result<Loss> + 'a) -> Self {
        Self::Forward {
            output: Box::new(loss),
            layers: None,
        }
    }
}

/// Losses of what layers compute on the way to the output: named sums over the layers, and a loss of the sums.
pub trait LayerLosses {
    /// Whether the attention's output of `layer` (from 0) is needed; a layer's own output always is at hand.
    fn needs_attention(&self, layer: usize) -> bool;

    /// Adds the losses of `layer`, not weighted, to `sums`. `output` `[B, T, D]` is the residual stream after the layer,
    /// `attention` `[B, T, D]` what attention added to it. Called once a layer, in either order of the layers.
    fn add(
        &self,
        layer: usize,
        output: &Tensor<3>,
        attention: Option<&Tensor<3>>,
        sums: &mut LayerSums,
    );

    /// The loss of `sums`, over all layers or over some, with the named parts; `None` where no sum counts.
    fn weighted(&self, sums: &LayerSums) -> Option<Loss>;
}

/// Sums over layers, by name, each `[1]`.
#[derive(Debug, Default)]
pub struct LayerSums(BTreeMap<&'static str, Tensor<1>>);

impl LayerSums {
    /// Adds `value` to the sum called `name`.
    pub fn add(&mut self, name: &'static str, value: Tensor<1>) {
        let sum = match self.0.remove(name) {
            Some(sum) => sum + value,
            None => value,
        };
        self.0.insert(name, sum);
    }

    /// The sum called `name`, if anything was added to it.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.0.get(name)
    }

    /// Adds `other`'s sums, detached from their graphs.
    pub fn add_detached(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.add(name, value.detach());
        }
    }
}

/// Layers of the model that learn as one, by themselves.
pub struct Block<'a> {
    /// The layers, from 0.
    pub layers: Range<usize>,
    /// What goes into the first of them, `[B, T, D]`, without autodiff.
    pub input: Tensor<3>,
    /// The loss `[1]` of what the last of them gives, `[B, T, D]`.
    pub loss: Box<dyn FnOnce(Tensor<3>) -> Tensor<1> + 'a>,
}

/// A loss, and figures worth writing beside it.
#[derive(Debug)]
pub struct Loss {
    /// What is differentiated: a mean over the batch's positions, in nats.
    pub total: Tensor<1>,
    /// Named parts, each a scalar, for `metrics.jsonl`.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

/// How one update differs from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateSettings {
    /// A multiple of the schedule's learning rate.
    pub lr_scale: f64,
    /// Another loss begins: the optimizer's moments and the spike detector's mean begin anew.
    pub reset_optimizer: bool,
}

impl Default for UpdateSettings {
    /// An update as the recipe says.
    fn default() -> Self {
        Self {
            lr_scale: 1.0,
            reset_optimizer: false,
        }
    }
}

/// Next-token cross entropy: the objective of pretraining.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn step_plan<'a>(
        &'a self,
        model: &'a Decoder,
        batch: &'a BatchTensors,
    ) -> Result<StepPlan<'a>> {
        Ok(StepPlan::output(|hidden| {
            Ok(Loss {
                total: batch.cross_entropy(model, hidden),
                parts: Vec::new(),
            })
        }))
    }
}
