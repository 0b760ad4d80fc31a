//! The memory that a run holds, counted from its shape.

use serde::Serialize;

use super::sizes::{Sizes, TeacherCost};
use crate::recipe::Recipe;

/// Bytes of memory that a run holds, all in f32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The weights.
    pub weights_bytes: u64,
    /// Their gradients.
    pub gradients_bytes: u64,
    /// The optimizer's moments.
    pub optimizer_bytes: u64,
    /// The average of the weights.
    pub ema_bytes: u64,
    /// Matrices as they are used, where they are rounded first; with activation checkpointing, of
    /// one layer and the head.
    pub rounded_bytes: u64,
    /// What the backward pass over one batch reads of the forward pass: the output of every
    /// product and norm, of attention and of the gate, and beside a teacher the logits; with
    /// activation checkpointing, of one layer, and the inputs of all. Where operations are not
    /// fused they keep more.
    pub activations_bytes: u64,
    /// The teacher.
    #[serde(rename = "targets_bytes")]
    pub teacher_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
}

impl Memory {
    /// The memory of `recipe`, whose model has `parameters` weights.
    pub(super) fn new(
        recipe: &Recipe,
        sizes: &Sizes,
        parameters: u64,
        teacher: Option<TeacherCost>,
    ) -> Self {
        let t = &recipe.train;
        let batch_tokens = (t.batch_size * recipe.data.seq_len) as u64;
        let trained = 4 * sizes.trained;
        let mut memory = Self {
            weights_bytes: 4 * parameters,
            gradients_bytes: trained,
            optimizer_bytes: 4 * sizes.moments,
            ema_bytes: if t.ema_decay > 0.0 { trained } else { 0 },
            rounded_bytes: 4 * sizes.rounded,
            activations_bytes: 4 * batch_tokens * sizes.activations_per_token,
            teacher_bytes: teacher.map_or(0, |teacher| teacher.bytes),
            total_bytes: 0,
        };
        memory.total_bytes = memory.weights_bytes
            + memory.gradients_bytes
            + memory.optimizer_bytes
            + memory.ema_bytes
            + memory.rounded_bytes
            + memory.activations_bytes
            + memory.teacher_bytes;
        memory
    }
}
