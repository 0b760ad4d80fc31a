//! One forward and backward pass for an objective, and what a model starts with beside it.

use std::path::Path;

use burn::optim::GradientsParams;
use retort_model::Decoder;

use crate::error::Result;
use crate::objective::{BatchTensors, Loss, Objective};
use crate::recompute;

/// The loss of `model` on `batch`, whose gradients go to `take`: all at once or, `sparing`
/// memory, a layer at a time.
///
/// # Errors
/// The objective's.
pub fn backward<O: Objective + ?Sized>(
    objective: &O,
    model: &Decoder,
    batch: &BatchTensors,
    sparing: bool,
    take: &mut dyn FnMut(GradientsParams),
) -> Result<Loss> {
    if sparing {
        return recompute::layer_by_layer(
            model,
            batch,
            &mut |pieces, i, x| (pieces.layer(i, x), None),
            &mut |hidden| objective.loss(model, hidden, batch),
            take,
        );
    }
    let loss = objective.loss(model, batch.hidden(model), batch)?;
    let grads = loss.total.clone().backward();
    take(GradientsParams::from_grads(grads, model));
    Ok(loss)
}

/// `model` with what `objective` trains beside it: as `checkpoint` has it, else random from
/// `seed`.
///
/// # Errors
/// The checkpoint does not have it.
pub(crate) fn with_beside(
    model: Decoder,
    objective: &dyn Objective,
    checkpoint: Option<&Path>,
    seed: u64,
) -> Result<Decoder> {
    let shapes = objective.beside();
    Ok(match checkpoint {
        _ if shapes.is_empty() => model,
        Some(directory) => retort_model::load_projections(directory, model, &shapes)?,
        None => model.with_projections(&shapes, seed),
    })
}
