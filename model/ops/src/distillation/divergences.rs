//! The four divergences between two distributions given by their logarithms, and what their
//! gradients need.
//!
//! With `q = softmax(z / T)`, a divergence `D = Σ d(p, q)` and `h = q ∂d/∂q`, the gradient of
//! T² D with respect to z is `T (h − q Σ h)`. Ids that share an outcome share its h by their q.

use super::loss_weights::LossWeights;
use crate::simd::{exp, ln, sum_pairs};

/// The four divergences between distributions given by their logarithms, those that count;
/// adds each one's weighted h to `h`.
#[inline(always)]
pub(super) fn divergences(
    log_p: &[f32],
    log_q: &[f32],
    h: &mut [f32],
    loss_weights: &LossWeights,
) -> [f32; 4] {
    let mut found = [0f32; 4];
    // One divergence, weighted: the sum of its terms, each of which adds to its h.
    macro_rules! divergence {
        ($i:literal, |$weight:ident, $lp:ident, $lq:ident, $h:ident| $term:expr) => {
            let $weight = loss_weights.divergences()[$i];
            if $weight != 0.0 {
                found[$i] = sum_pairs(
                    log_p,
                    log_q,
                    h,
                    #[inline(always)]
                    |$lp, $lq, $h| $term,
                );
            }
        };
    }
    divergence!(0, |forward, lp, lq, h| {
        let p = exp(lp);
        *h -= forward * p;
        p * (lp - lq)
    });
    divergence!(1, |reverse, lp, lq, h| {
        let term = exp(lq) * (lq - lp);
        *h += reverse * term;
        term
    });
    let beta = loss_weights.beta;
    divergence!(2, |js, lp, lq, h| {
        let (p, q) = (beta * exp(lp), (1.0 - beta) * exp(lq));
        let lm = ln(p + q);
        let of_q = q * (lq - lm);
        *h += js * of_q;
        p * (lp - lm) + of_q
    });
    divergence!(3, |tv, lp, lq, h| {
        let (p, q) = (exp(lp), exp(lq));
        let sign = if p > q { 0.5 } else { -0.5 };
        *h -= tv * sign * q;
        sign * (p - q)
    });
    found
}

/// The student's probability of all ids but those with `q`.
pub(super) fn rest_of(q: &[f32]) -> f32 {
    (1.0 - q.iter().sum::<f32>()).max(1e-30)
}

/// The divergences between the outcomes `ids` and any other; each id's h, and the h of the
/// others over their probability.
#[inline(always)]
pub(super) fn outcomes(
    ids: &[u32],
    p: &[f32],
    mass: f32,
    log_q: impl Fn(u32) -> f32,
    loss_weights: &LossWeights,
) -> ([f32; 4], Vec<f32>, f32) {
    const NEVER: f32 = 1e-30;
    let mut ours: Vec<f32> = ids.iter().map(|&id| log_q(id)).collect();
    let q: Vec<f32> = ours.iter().map(|&x| exp(x)).collect();
    let rest = rest_of(&q);
    ours.push(rest.ln());
    let theirs = p.iter().chain([&mass]).map(|p| p.max(NEVER).ln());
    let theirs: Vec<f32> = theirs.collect();
    let mut h = vec![0f32; ours.len()];
    let found = divergences(&theirs, &ours, &mut h, loss_weights);
    let of_rest = h.pop().unwrap_or(0.0);
    (found, h, of_rest / rest)
}
