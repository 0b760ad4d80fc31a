//! The backward pass a layer at a time (activation checkpointing: Chen et al., arXiv
//! 1604.06174): the forward pass keeps what goes into each layer, and each layer is run again
//! when its gradient is due. Memory is that of one layer and the inputs of all, arithmetic a
//! third more.
//!
//! In: a model, a batch, what a layer gives and what is minimised of the last one's output. Out: the
//! gradients of one ordinary pass, added in another order where a weight is used twice (a tied
//! embedding).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};
use retort_model::{Decoder, LayerwiseForward};

use crate::error::Result;
use crate::objective::{BatchTensors, Loss};

/// What a layer gives: its output `[B, T, D]`, and what is minimised `[1]` of what it did, if
/// anything is.
pub type LayerOutput = (Tensor<3>, Option<Tensor<1>>);

/// The loss of `model` on `batch`: what `outputs` makes of the last layer's normed output
/// `[B, T, D]`. The gradients of it and of what `layer`, given an index and that layer's input,
/// adds of its own go to `take`, piece by piece. `layer` is asked once for each layer, the last
/// one first.
///
/// # Errors
/// Those of `outputs`.
pub fn layer_by_layer(
    model: &Decoder,
    batch: &BatchTensors,
    layer: &mut dyn FnMut(&LayerwiseForward<'_>, usize, Tensor<3>) -> LayerOutput,
    outputs: &mut dyn FnMut(Tensor<3>) -> Result<Loss>,
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
    let mut loss = outputs(again.normed(x.clone()))?;
    let mut grads = loss.total.clone().backward();
    loss.total = loss.total.detach();
    let mut gradient = remove(&x, &mut grads);
    take(GradientsParams::from_grads(grads, model));
    for i in (0..model.layers.len()).rev() {
        let x = next().expect("each layer has an input");
        let (y, own) = layer(&again, i, x.clone());
        let mut pulled = pull(y, gradient);
        if let Some(own) = own {
            pulled = pulled + own;
        }
        let mut grads = pulled.backward();
        gradient = remove(&x, &mut grads);
        take(GradientsParams::from_grads(grads, model));
    }
    if model.embed_tokens.weight.val().is_require_grad() {
        let grads = pull(again.embedded(), gradient).backward();
        take(GradientsParams::from_grads(grads, model));
    }
    Ok(loss)
}

/// A scalar whose gradients are those of what `y` was made of where its own is `gradient`.
fn pull(y: Tensor<3>, gradient: Tensor<3>) -> Tensor<1> {
    (y * Tensor::from_inner(gradient)).sum()
}

fn remove(x: &Tensor<3>, grads: &mut Gradients) -> Tensor<3> {
    x.grad_remove(grads)
        .expect("a layer's output depends on its input")
}
