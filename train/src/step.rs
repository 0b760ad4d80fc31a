//! The gradient of one step: `accumulate` forward and backward passes, their gradients added,
//! divided and clipped. It equals that of one pass over all the sequences together: a token
//! weighs the same in whatever part of the step it comes.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use retort_data::Batch;
use retort_model::Decoder;
use serde_json::{Map, Value, json};

use crate::clip::clip;
use crate::error::Result;
use crate::objective::{BatchTensors, Objective};
use crate::recipe::TrainConfig;

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
}

/// Runs `model`, after `step` updates, forward and backward over `batches`, on `device` with
/// autodiff.
///
/// # Errors
/// The objective's.
pub fn gradients(
    model: &Decoder,
    objective: &dyn Objective,
    (batches, step): (&[&Batch], u64),
    config: &TrainConfig,
    device: &Device,
) -> Result<Gradients> {
    let made = objective.batches(model, batches, step)?;
    let made: Option<Vec<&Batch>> = made.as_ref().map(|made| made.iter().collect());
    let batches = made.as_deref().unwrap_or(batches);
    let mut accumulator = GradientsAccumulator::new();
    let mut sums: Vec<(&'static str, Tensor<1>)> = Vec::new();
    let tokens: usize = batches.iter().map(|b| b.tokens()).sum();
    let weight = batches.len() as f32 / tokens.max(1) as f32;
    for batch in batches {
        let tensors = BatchTensors::weighted(batch, weight, device)
            .within_documents(batch, config.document_attention)
            .at_step(step);
        let mut take = |grads| accumulator.accumulate(model, grads);
        let sparing = config.activation_checkpointing;
        let loss = objective.backward(model, &tensors, sparing, &mut take)?;
        let parts = std::iter::once(("loss", loss.total)).chain(loss.parts);
        add_parts(&mut sums, parts.map(|(n, v)| (n, v.inner())));
    }
    let share = 1.0 / batches.len() as f64;
    let (grads, norm) = clip(model, accumulator.grads(), share, config.grad_clip);
    let mut means = sums
        .into_iter()
        .map(|(name, sum)| (name, f64::from(sum.into_scalar::<f32>()) * share));
    Ok(Gradients {
        grads,
        norm,
        loss: means.next().map_or(f64::NAN, |(_, loss)| loss),
        tokens: tokens as u64,
        parts: means.map(|(n, v)| (n.to_owned(), json!(v))).collect(),
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
