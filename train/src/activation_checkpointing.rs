//! Activation checkpointing (Chen et al., arXiv 1604.06174): the forward pass keeps only each layer's input, and each
//! layer runs again when its gradient is due. Memory is that of one layer and the inputs of all, arithmetic a third
//! more.
//!
//! In: a model, a batch and its losses. Out: the gradients of an ordinary pass, a layer at a time, added in another
//! order where a weight is used twice (a tied embedding).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};
use retort_model::Decoder;

use crate::batch_tensors::BatchTensors;
use crate::error::Result;
use crate::layer_pass::{layer, with_layers};
use crate::objective::{LayerLosses, LayerSums, Loss, OutputLoss};

/// The loss of `model` on `batch`: that of the output, and those of `layers`. The gradients go to `take`, the last
/// layer's first.
///
/// # Errors
/// Those of `output`.
pub fn backward(
    model: &Decoder,
    batch: &BatchTensors,
    output: OutputLoss<'_>,
    layers: Option<&dyn LayerLosses>,
    take: &mut dyn FnMut(GradientsParams),
) -> Result<Loss> {
    let documents = batch.documents.as_ref();
    let plain = model.valid();
    let forward = plain.layerwise(batch.inputs.clone().inner(), documents);
    let mut inputs = vec![forward.embedded()];
    for i in 0..model.layers.len() {
        inputs.push(forward.layer(i, inputs[i].clone()));
    }
    let again = model.layerwise(batch.inputs.clone(), documents);
    let mut next = || inputs.pop().map(|x| Tensor::from_inner(x).require_grad());

    let x = next().expect("the last layer has an output");
    let mut loss = output(again.normed(x.clone()))?;
    let mut grads = loss.total.clone().backward();
    loss.total = loss.total.detach();
    let mut gradient = remove(&x, &mut grads);
    take(GradientsParams::from_grads(grads, model));
    let mut sums = LayerSums::default();
    for i in (0..model.layers.len()).rev() {
        let x = next().expect("each layer has an input");
        let mut own = LayerSums::default();
        let y = layer(&again, i, x.clone(), layers, &mut own);
        let mut pulled = pull(y, gradient);
        if let Some(loss) = layers.and_then(|losses| losses.weighted(&own)) {
            pulled = pulled + loss.total;
        }
        sums.add_detached(own);
        let mut grads = pulled.backward();
        gradient = remove(&x, &mut grads);
        take(GradientsParams::from_grads(grads, model));
    }
    if model.embed_tokens.weight.val().is_require_grad() {
        let grads = pull(again.embedded(), gradient).backward();
        take(GradientsParams::from_grads(grads, model));
    }
    Ok(with_layers(loss, layers, &sums))
}

/// A scalar whose gradients are those of what `y` was made of where its own is `gradient`.
fn pull(y: Tensor<3>, gradient: Tensor<3>) -> Tensor<1> {
    (y * Tensor::from_inner(gradient)).sum()
}

fn remove(x: &Tensor<3>, grads: &mut Gradients) -> Tensor<3> {
    x.grad_remove(grads)
        .expect("a layer's output depends on its input")
}
