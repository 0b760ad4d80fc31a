//! One forward and backward pass over a batch, as an objective plans it.
//!
//! In: a model and a batch. Out: the loss; the gradients go to a callback, all at once or, with activation
//! checkpointing, a layer at a time.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use retort_model::Decoder;

use crate::activation_checkpointing;
use crate::batch_tensors::BatchTensors;
use crate::error::Result;
use crate::layer_pass::{layer, with_layers};
use crate::objective::{Block, LayerLosses, LayerSums, Loss, Objective, OutputLoss, StepPlan};

/// The loss of `model` on `batch`. Its gradients go to `take`, with `checkpointing` in as many parts as there are
/// layers and more.
///
/// # Errors
/// The objective's.
pub fn backward(
    objective: &dyn Objective,
    model: &Decoder,
    batch: &BatchTensors,
    checkpointing: bool,
    take: &mut dyn FnMut(GradientsParams),
) -> Result<Loss> {
    match objective.step_plan(model, batch)? {
        StepPlan::Forward { output, layers } if checkpointing => {
            activation_checkpointing::backward(model, batch, output, layers.as_deref(), take)
        }
        StepPlan::Forward { output, layers } => {
            let loss = forward(model, batch, output, layers.as_deref())?;
            let grads = loss.total.clone().backward();
            take(GradientsParams::from_grads(grads, model));
            Ok(loss)
        }
        StepPlan::Blockwise(blocks) => Ok(blockwise(model, batch, blocks, take)),
    }
}

/// The loss of one forward pass that keeps everything for the backward pass.
fn forward(
    model: &Decoder,
    batch: &BatchTensors,
    output: OutputLoss<'_>,
    layers: Option<&dyn LayerLosses>,
) -> Result<Loss> {
    if layers.is_none() {
        return output(batch.hidden(model));
    }
    let layerwise = model.layerwise(batch.inputs.clone(), batch.documents.as_ref());
    let mut sums = LayerSums::default();
    let mut x = layerwise.embedded();
    for i in 0..model.layers.len() {
        x = layer(&layerwise, i, x, layers, &mut sums);
    }
    let loss = output(layerwise.normed(x))?;
    Ok(with_layers(loss, layers, &sums))
}

/// The sum of the blocks' losses, one block's activations at a time.
fn blockwise(
    model: &Decoder,
    batch: &BatchTensors,
    blocks: Vec<Block<'_>>,
    take: &mut dyn FnMut(GradientsParams),
) -> Loss {
    let layerwise = model.layerwise(batch.inputs.clone(), batch.documents.as_ref());
    let mut total: Option<Tensor<1>> = None;
    for block in blocks {
        let mut x = Tensor::from_inner(block.input);
        for i in block.layers {
            x = layerwise.layer(i, x);
        }
        let loss = (block.loss)(x);
        take(GradientsParams::from_grads(loss.clone().backward(), model));
        let loss = loss.detach();
        total = Some(match total {
            Some(total) => total + loss,
            None => loss,
        });
    }
    let total = total.expect("an objective plans one block at least");
    Loss {
        parts: vec![("blockwise", total.clone())],
        total,
    }
}
