//! Which tokens stay in question: top-k, typical, top-p and min-p, each on what the one before has left.
//!
//! In and out: candidates, ids with their logits; `max` is the largest logit. Among equal logits, the lower id comes
//! first. A vocabulary is not sorted where a part of it will do.

use std::cmp::Ordering;

use super::candidate::Candidate;

/// How many candidates are tried first where it is not known how many will do.
const FIRST: usize = 128;

/// The more likely first, then the lower id.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the `k` most likely, in their order; 0 keeps all as they are.
pub(super) fn top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 0 {
        return;
    }
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, order);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(order);
}

/// Keeps the most likely that together reach the share `p`, in their order (nucleus sampling, arXiv 1904.09751).
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f32, max: f32) {
    if p < 1.0 {
        let weight = |candidate: &Candidate| f64::from((candidate.1 - max).exp());
        reach(candidates, p, weight, order);
    }
}

/// Drops what is less likely than the share `p` of the most likely (arXiv 2407.01082).
pub(super) fn min_p(candidates: &mut Vec<Candidate>, p: f32, max: f32) {
    if p > 0.0 {
        let least = max + p.ln();
        candidates.retain(|candidate| candidate.1 >= least);
    }
}

/// Keeps those whose surprise is nearest to the entropy, until they reach the share `p` (arXiv 2202.00666).
pub(super) fn typical(candidates: &mut Vec<Candidate>, p: f32, max: f32) {
    if p >= 1.0 {
        return;
    }
    let weight = |candidate: &Candidate| f64::from(candidate.1 - max).exp();
    let total: f64 = candidates.iter().map(weight).sum();
    let surprise = |candidate: &Candidate| total.ln() - f64::from(candidate.1 - max);
    let entropy: f64 = candidates
        .iter()
        .map(|candidate| weight(candidate) / total * surprise(candidate))
        .sum();
    let distance = |candidate: &Candidate| (surprise(candidate) - entropy).abs();
    reach(candidates, p, weight, |a, b| {
        distance(a).total_cmp(&distance(b)).then(a.0.cmp(&b.0))
    });
}

/// Keeps the first in `order` whose weights together reach the share `p` of all; at least one.
fn reach(
    candidates: &mut Vec<Candidate>,
    p: f32,
    weight: impl Fn(&Candidate) -> f64,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
) {
    let target = f64::from(p) * candidates.iter().map(&weight).sum::<f64>();
    let mut n = FIRST;
    loop {
        let part = if candidates.len() > n {
            candidates.select_nth_unstable_by(n - 1, &order);
            &mut candidates[..n]
        } else {
            &mut candidates[..]
        };
        part.sort_unstable_by(&order);
        let mut reached = 0.0;
        let last = part.iter().position(|candidate| {
            reached += weight(candidate);
            reached >= target
        });
        if let Some(last) = last {
            return candidates.truncate(last + 1);
        }
        if n >= candidates.len() {
            return;
        }
        n *= 16;
    }
}
