//! Cross entropy of a chunk's logits: `loss = Σ weight · (log Σ exp(z) − z[target])` in nats.
//!
//! In: logits `[N, V]`, targets `[N]` and weights `[N]`. Out: the loss and, in the logits'
//! place, its gradients.

use std::ops::Range;

use rayon::prelude::*;

use super::head::{Gradients, Head, chunk, over_chunks};
use super::vector::{exp_sum, max, simd};

/// What to predict at each position.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'a> {
    /// Ids below V, `[N]`.
    pub ids: &'a [usize],
    /// What each weighs, `[N]`; positions of weight 0 have no part in anything.
    pub weights: &'a [f32],
}

/// The loss of `x` `[N, D]`.
pub(crate) fn loss(
    x: &[f32],
    head: Head<'_>,
    targets: Targets<'_>,
    gradients: Option<Gradients<'_>>,
) -> f64 {
    let n = targets.ids.len();
    let of_chunk = |rows: Range<usize>, logits: &mut [f32], gradient: bool| {
        let terms: Vec<f64> = logits
            .par_chunks_exact_mut(head.vocabulary)
            .enumerate()
            .map(|(i, row)| {
                let i = rows.start + i;
                let (target, weight) = (targets.ids[i], targets.weights[i]);
                simd(
                    #[inline(always)]
                    || position(row, target, weight, gradient),
                )
            })
            .collect();
        [terms.iter().sum()]
    };
    let size = (n, chunk(n, head.vocabulary, 0));
    let [total] = over_chunks(x, size, head, gradients, of_chunk);
    total
}

/// One position's weighted loss; its logits become their gradients where `gradient`.
#[inline(always)]
fn position(logits: &mut [f32], target: usize, weight: f32, gradient: bool) -> f64 {
    if weight == 0.0 {
        if gradient {
            logits.fill(0.0);
        }
        return 0.0;
    }
    let of_target = logits[target];
    let largest = max(logits);
    let total = exp_sum(logits, largest);
    if gradient {
        let share = weight / total;
        for p in logits.iter_mut() {
            *p *= share;
        }
        logits[target] -= weight;
    }
    f64::from(weight) * f64::from(total.ln() + (largest - of_target))
}
