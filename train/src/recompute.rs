//! The backward pass a layer at a time (activation checkpointing: Chen et al., arXiv
//! 1604.06174): the forward pass keeps what goes into each layer, and each layer is run again
//! when its gradient is due. Memory is that of one layer and the inputs of all, arithmetic a
//! third more.
//!
//! In: a model, an objective and a batch. Out: the gradients of one ordinary pass, added in
//! another order where a weight is used twice (a tied embedding).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};
use retort_model::Decoder;

use crate::error::Result;
use crate::objective::{BatchTensors, Loss, Objective};

/// The loss of `model` on `batch`; each piece's gradients go to `take`.
///
/// # Errors
/// The objective's.
pub fn backward<O: Objective + ?Sized>(
    model: &Decoder,
    objective: &O,
    batch: &BatchTensors,
    take: &mut dyn FnMut(GradientsParams),
) -> Result<Loss> {
    let documents = batch.documents.as_ref();
    let plain = model.valid();
    let forward = plain.pieces(batch.inputs.clone().inner(), documents);
    let mut inputs = vec![forward.embedded()];
    for i in 0..model.layers.len() {
        inputs.push(forward.layer(i, inputs[i].clone()));
    }
    let again = model.pieces(batch.inputs.clone(), documents);
    let mut next = || inputs.pop().map(|x| Tensor::from_inner(x).require_grad());

    let x = next().expect("the last layer has an output");
    let loss = objective.loss(model, again.normed(x.clone()), batch)?;
    let mut grads = loss.total.clone().backward();
    let mut gradient = remove(&x, &mut grads);
    take(GradientsParams::from_grads(grads, model));
    for i in (0..model.layers.len()).rev() {
        let x = next().expect("each layer has an input");
        let mut grads = pull(again.layer(i, x.clone()), gradient);
        gradient = remove(&x, &mut grads);
        take(GradientsParams::from_grads(grads, model));
    }
    if model.embed_tokens.weight.val().is_require_grad() {
        let grads = pull(again.embedded(), gradient);
        take(GradientsParams::from_grads(grads, model));
    }
    Ok(loss)
}

/// The gradients of what `y` was made of where its own is `gradient`.
fn pull(y: Tensor<3>, gradient: Tensor<3>) -> Gradients {
    (y * Tensor::from_inner(gradient)).sum().backward()
}

fn remove(x: &Tensor<3>, grads: &mut Gradients) -> Tensor<3> {
    x.grad_remove(grads)
        .expect("a layer's output depends on its input")
}
