//! The gradient of one step: `accumulate` forward and backward passes, their gradients added,
//! divided and clipped. It equals that of one pass over all the sequences together: a token
//! weighs the same in whatever part of the step it comes.

use std::collections::HashSet;

use burn::module::ParamId;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use retort_data::Batch;
use retort_model::Decoder;
use serde_json::{Map, Value, json};

use crate::backward::backward;
use crate::batch_tensors::BatchTensors;
use crate::clip::{clip, clip_to, squares};
use crate::error::Result;
use crate::objective::Objective;
use crate::recipe::TrainConfig;
use retort_comm::Zero1;

/// What a step's batches say about the weights.
pub struct Gradients {
    /// The clipped gradients.
    pub grads: GradientsParams,
    /// The norm of all of them before clipping.
    pub norm: f64,
    /// The objective, in nats a token.
    pub loss: f64,
    /// Tokens that it is a mean over.
    pub tokens: u64,
    /// The objective's named parts.
    pub parts: Map<String, Value>,
    /// Among several ranks, the parameters that any of them updates.
    pub(crate) updated: HashSet<ParamId>,
}

/// Runs `model`, after `step` updates, forward and backward over `batches`, on `device` with
/// autodiff.
///
/// # Errors
/// The objective's.
pub fn gradients(
    model: &Decoder,
    objective: &dyn Objective,
    now: (&[&Batch], u64),
    config: &TrainConfig,
    device: &Device,
) -> Result<Gradients> {
    gradients_of_all_ranks(model, objective, now, config, device, None)
}

/// The same where `batches` are this rank's share of the step, and the other ranks have the rest: the gradients are
/// those that this rank owns, everything else is of all ranks' batches.
///
/// # Errors
/// The objective's; the ranks do not do the same.
pub(crate) fn gradients_of_all_ranks(
    model: &Decoder,
    objective: &dyn Objective,
    (batches, step): (&[&Batch], u64),
    config: &TrainConfig,
    device: &Device,
    ranks: Option<&Zero1>,
) -> Result<Gradients> {
    let made = objective.replace_batches(model, batches, step)?;
    let made: Option<Vec<&Batch>> = made.as_ref().map(|made| made.iter().collect());
    let batches = made.as_deref().unwrap_or(batches);
    let mut accumulator = GradientsAccumulator::new();
    let mut reduction = ranks.map(|ranks| ranks.reduction(model));
    let mut sums: Vec<(&'static str, Tensor<1>)> = Vec::new();
    let tokens: usize = batches.iter().map(|b| b.tokens()).sum();
    let mut all = vec![tokens as f64, batches.len() as f64];
    if let Some(ranks) = ranks {
        all = ranks.all_reduce_f64(&all);
    }
    let [tokens, passes] = [all[0], all[1]];
    let weight = passes as f32 / tokens.max(1.0) as f32;
    for (i, batch) in batches.iter().enumerate() {
        let tensors = BatchTensors::weighted(batch, weight, device)
            .within_documents(batch, config.document_attention)
            .at_step(step);
        let last = i + 1 == batches.len();
        let mut take = |grads| match &mut reduction {
            Some(reduction) => reduction.add(grads, last),
            None => accumulator.accumulate(model, grads),
        };
        let checkpointing = config.activation_checkpointing;
        let loss = backward(objective, model, &tensors, checkpointing, &mut take)?;
        let parts = std::iter::once(("loss", loss.total)).chain(loss.parts);
        add_parts(&mut sums, parts.map(|(n, v)| (n, v.inner())));
    }
    let share = 1.0 / passes;
    let names: Vec<&str> = sums.iter().map(|(name, _)| *name).collect();
    let values = sums
        .into_iter()
        .map(|(_, sum)| f64::from(sum.into_scalar::<f32>()));
    let mut values: Vec<f64> = values.collect();
    if let Some(ranks) = ranks {
        values = ranks.all_reduce_f64(&values);
    }
    let (grads, norm, updated) = match (ranks, reduction) {
        (Some(ranks), Some(reduction)) => {
            let (grads, updated) = reduction.finish()?;
            let norm = ranks.norm(model, &grads, squares(model, &grads), share);
            let grads = clip_to(model, grads, share, (norm, config.grad_clip));
            (grads, norm, updated)
        }
        _ => {
            let (grads, norm) = clip(model, accumulator.grads(), share, config.grad_clip);
            (grads, norm, HashSet::new())
        }
    };
    let mut means = names
        .into_iter()
        .zip(values.into_iter().map(|sum| sum * share));
    Ok(Gradients {
        grads,
        norm,
        loss: means.next().map_or(f64::NAN, |(_, loss)| loss),
        tokens: tokens as u64,
        parts: means.map(|(n, v)| (n.to_owned(), json!(v))).collect(),
        updated,
    })
}

fn add_parts(
    sums: &mut Vec<(&'static str, Tensor<1>)>,
    parts: impl Iterator<Item = (&'static str, Tensor<1>)>,
) {
    for (i, (name, value)) in parts.enumerate() {
        match sums.get_mut(i) {
            Some((_, sum)) => *sum = sum.clone() + value,
            None => sums.push((name, value)),
        }
    }
}
