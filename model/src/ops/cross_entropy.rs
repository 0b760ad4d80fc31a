//! The head and its cross entropy together, a chunk of positions at a time, so that neither
//! logits nor probabilities of all positions exist at once (as in Hsu et al., Liger Kernel,
//! arXiv 2410.10989): `loss = Σ weight · (log Σ exp(x W) − (x W)[target])` in nats.
//!
//! In: `x` `[N, D]`, the head `W` `[D, V]` or, tied, the embedding `[V, D]`, targets `[N]`
//! and weights `[N]`. Out: the loss and, where asked for, its gradients `dx` `[N, D]` and
//! `dW` in the layout of `W`: with one scalar behind them they can be computed at once,
//! while a chunk's logits are at hand.

use rayon::prelude::*;

use super::raw::{Threads, View, product_into};
use super::vector::{exp_sum, max, simd};

/// The head's weights.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// `[D, V]`, or `[V, D]` where tied.
    pub weights: &'a [f32],
    /// V.
    pub vocabulary: usize,
    /// Whether `weights` are the embedding's.
    pub tied: bool,
}

/// What to predict at each position.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'a> {
    /// Ids below V, `[N]`.
    pub ids: &'a [usize],
    /// What each weighs, `[N]`; positions of weight 0 have no part in anything.
    pub weights: &'a [f32],
}

/// The gradients to fill, zero before: `dx` `[N, D]` and `dW`.
pub(crate) struct Gradients<'a> {
    pub x: &'a mut [f32],
    pub weights: &'a mut [f32],
}

/// Logits that exist at once: 16 MiB.
const LOGITS: usize = 1 << 22;
/// A chunk has at least this many positions, however large the vocabulary: fewer make the
/// products slow.
const FEWEST: usize = 256;

/// The loss of `x` `[N, D]`.
pub(crate) fn loss(
    x: &[f32],
    head: Head<'_>,
    targets: Targets<'_>,
    mut gradients: Option<Gradients<'_>>,
) -> f64 {
    let n = targets.ids.len();
    let v = head.vocabulary;
    if n == 0 || v == 0 {
        return 0.0;
    }
    let d = x.len() / n;
    let chunk = (LOGITS / v).max(FEWEST).min(n);
    let mut logits = vec![0f32; chunk * v];
    let weights = match head.tied {
        true => View::new(head.weights, v, d).t(),
        false => View::new(head.weights, d, v),
    };
    let mut total = 0.0;
    for first in (0..n).step_by(chunk) {
        let rows = first..n.min(first + chunk);
        let logits = &mut logits[..rows.len() * v];
        let part = View::new(&x[rows.start * d..], rows.len(), d);
        product_into(logits, part, weights, false, Threads::All);
        let of = |i: usize| (targets.ids[first + i], targets.weights[first + i]);
        let terms: Vec<f64> = logits
            .par_chunks_exact_mut(v)
            .enumerate()
            .map(|(i, row)| {
                let (target, weight) = of(i);
                simd(
                    #[inline(always)]
                    || position(row, target, weight, gradients.is_some()),
                )
            })
            .collect();
        total += terms.iter().sum::<f64>();
        if let Some(gradients) = &mut gradients {
            let dlogits = View::new(logits, rows.len(), v);
            let dx = &mut gradients.x[rows.start * d..rows.end * d];
            product_into(dx, dlogits, weights.t(), false, Threads::All);
            let (a, b) = match head.tied {
                true => (dlogits, part),
                false => (part, dlogits),
            };
            product_into(gradients.weights, a.t(), b, first > 0, Threads::All);
        }
    }
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
