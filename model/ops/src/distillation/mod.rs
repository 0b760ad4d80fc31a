//! Distillation's loss over the head's logits: divergences between a teacher's distributions and
//! the student's, beside the text's cross entropy.
//!
//! In: the student's hidden states `[N, D]` and its head, the text's next ids, and
//! [`TeacherLogits`]. Out: `Σ weight · (c · CE + T² · Σ w · D(p ‖ q))` in nats, where `p` and `q` are
//! the teacher's and the student's softmax at temperature T over the ids that both have, and
//! CE the text's cross entropy at temperature 1 over all ids. The factor T² keeps the size of
//! the gradient independent of the temperature (Hinton et al., arXiv 1503.02531, section 2).
//!
//! On burn-flex it is one operation with the head (`kernel.rs`, `divergences.rs`), elsewhere
//! composed of Burn's operations (`composed.rs`); both keep one chunk's logits at a time.

use burn::tensor::{Int, Tensor};

use crate::device::fused;
use crate::lm_head_loss::{LmHead, lm_head_loss};

mod composed;
mod divergences;
mod kernel;
mod loss_weights;
mod teacher_logits;
#[cfg(test)]
mod tests;

pub use loss_weights::LossWeights;
pub use teacher_logits::{LogitsOf, Sparse, Tail, TeacherLogits};

/// A loss, and what it is made of.
#[derive(Debug)]
pub struct DistillationLoss {
    /// The weighted sum, which is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// The text's cross entropy, and the divergences in the order of
    /// [`LossWeights::divergences`], each with a weight of 1; 0 where its weight is 0. Constants.
    pub parts: [Tensor<1>; 5],
}

/// The loss of a student with hidden states `[N, D]` under `head` on text `targets` `[N]`, positions
/// weighted by `weights` `[N]`.
///
/// # Panics
/// Sparse teacher logits name an id that the student does not have.
pub fn distillation_loss(
    hidden: Tensor<2>,
    head: LmHead,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    teacher: TeacherLogits,
    loss_weights: LossWeights,
) -> DistillationLoss {
    let sums = if fused(&hidden) && fused(&head.weight) {
        let loss = kernel::Distillation {
            teacher,
            loss_weights,
        };
        lm_head_loss(loss, hidden, head, targets, weights)
    } else {
        composed::composed((hidden, head), targets, weights, &teacher, loss_weights)
    };
    let part = |i: usize| sums.clone().narrow(0, i, 1);
    DistillationLoss {
        total: part(0),
        parts: std::array::from_fn(|i| part(i + 1).detach()),
    }
}
