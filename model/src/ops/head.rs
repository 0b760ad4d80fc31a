//! The head and a loss over its logits together, a chunk of positions at a time, so that
//! neither logits nor probabilities of all positions exist at once (as in Hsu et al., Liger
//! Kernel, arXiv 2410.10989).
//!
//! In: `x` `[N, D]`, the head `W` `[D, V]` or, tied, the embedding `[V, D]`, and a function
//! from a chunk's logits `[n, V]` to its loss, which leaves their gradients in their place.
//! Out: the loss's terms, summed, and where asked for its gradients `dx` `[N, D]` and `dW`
//! in the layout of `W`: with one scalar behind them they can be computed at once, while a
//! chunk's logits are at hand.

use std::ops::Range;

use super::product::{Threads, View, append_product, product_into};

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

/// The gradients to fill, empty before: `dx` `[N, D]` and `dW`.
pub(crate) struct Gradients<'a> {
    pub x: &'a mut Vec<f32>,
    pub weights: &'a mut Vec<f32>,
}

/// Logits that exist at once: 16 MiB.
const LOGITS: usize = 1 << 22;
/// A chunk has at least this many positions, however large the vocabulary: fewer make the
/// products slow.
const FEWEST: usize = 256;

/// Positions of N in a chunk, of a vocabulary of V; no more than `most`, if that is not 0.
pub(crate) fn chunk(n: usize, v: usize, most: usize) -> usize {
    let chunk = match most {
        0 => (LOGITS / v.max(1)).max(FEWEST),
        most => most,
    };
    chunk.min(n).max(1)
}

/// The sums of `K` terms over the positions of `x` `[N, D]`, `chunk` of them at once. `loss` gets positions and their
/// logits and, if there are `gradients` to fill, leaves those of the logits in their place.
pub(crate) fn over_chunks<const K: usize>(
    x: &[f32],
    (n, chunk): (usize, usize),
    head: Head<'_>,
    mut gradients: Option<Gradients<'_>>,
    mut loss: impl FnMut(Range<usize>, &mut [f32], bool) -> [f64; K],
) -> [f64; K] {
    let mut total = [0.0; K];
    let v = head.vocabulary;
    if n == 0 || v == 0 {
        return total;
    }
    let d = x.len() / n;
    let mut logits = Vec::new();
    if let Some(gradients) = &mut gradients {
        gradients.x.reserve_exact(n * d);
    }
    let weights = match head.tied {
        true => View::new(head.weights, v, d).t(),
        false => View::new(head.weights, d, v),
    };
    for first in (0..n).step_by(chunk) {
        let rows = first..n.min(first + chunk);
        let part = View::new(&x[rows.start * d..], rows.len(), d);
        logits.clear();
        append_product(&mut logits, part, weights, Threads::All);
        let terms = loss(rows.clone(), &mut logits, gradients.is_some());
        for (sum, term) in total.iter_mut().zip(terms) {
            *sum += term;
        }
        if let Some(gradients) = &mut gradients {
            let dlogits = View::new(&logits, rows.len(), v);
            append_product(gradients.x, dlogits, weights.t(), Threads::All);
            let (a, b) = match head.tied {
                true => (dlogits, part),
                false => (part, dlogits),
            };
            match first {
                0 => append_product(gradients.weights, a.t(), b, Threads::All),
                _ => product_into(gradients.weights, a.t(), b, true, Threads::All),
            }
        }
    }
    total
}
