//! Cross entropy and divergences from a teacher's distribution, of a chunk's logits.
//!
//! In: the student's logits `z` `[N, V]`, targets and weights `[N]`, and a
//! [`Lesson`]. Out: six sums over positions, the loss and its parts
//! (`distillation.rs` has the formulas), and in the logits' place the loss's gradients.
//!
//! With `q = softmax(z / T)`, a divergence `D = Σ d(p, q)` and `h = q ∂d/∂q`, the gradient of
//! T² D with respect to z is `T (h − q Σ h)`. What two ids share an outcome share its h by q.

use std::ops::Range;

use rayon::prelude::*;

use super::cross_entropy::Targets;
use super::head::{Gradients, Head, chunk, over_chunks};
use super::vector::{exp, exp_sum, ln, log_sum_exp, max, simd, sum_pairs};
use crate::distillation::{Lesson, Mixture, Rest, Sparse};

/// The loss and its parts: cross entropy and the four divergences.
pub(crate) type Sums = [f64; 6];

/// What the student has at one position.
struct Position<'a> {
    logits: &'a mut [f32],
    target: usize,
    weight: f32,
    gradient: bool,
}

/// The losses of `x` `[N, D]`.
pub(crate) fn loss(
    x: &[f32],
    head: Head<'_>,
    targets: Targets<'_>,
    (lesson, mixture): (&Lesson, &Mixture),
    gradients: Option<Gradients<'_>>,
) -> Sums {
    let v = head.vocabulary;
    let of_chunk = |rows: Range<usize>, logits: &mut [f32], gradient: bool| {
        let positions = logits
            .par_chunks_exact_mut(v)
            .zip(rows.clone().into_par_iter())
            .map(|(logits, i)| {
                let position = Position {
                    logits,
                    target: targets.ids[i],
                    weight: targets.weights[i],
                    gradient,
                };
                (i, position)
            });
        let terms: Vec<Sums> = match lesson {
            Lesson::Dense { vocabulary, logits } => {
                let mut theirs = logits(rows.clone());
                assert_eq!(
                    theirs.len(),
                    rows.len() * vocabulary,
                    "the teacher's logits"
                );
                positions
                    .zip(theirs.par_chunks_exact_mut(*vocabulary))
                    .map_init(Vec::new, |room, ((_, position), theirs)| {
                        simd(
                            #[inline(always)]
                            || dense(position, theirs, mixture, room),
                        )
                    })
                    .collect()
            }
            Lesson::Sparse(of) => positions
                .map_init(Vec::new, |room, (i, position)| {
                    simd(
                        #[inline(always)]
                        || sparse(position, (of, i), mixture, room),
                    )
                })
                .collect(),
        };
        let mut sums = [0.0; 6];
        for term in terms {
            for (sum, term) in sums.iter_mut().zip(term) {
                *sum += term;
            }
        }
        sums
    };
    let n = targets.ids.len();
    let size = (n, chunk(n, v, mixture.chunk));
    over_chunks(x, size, head, gradients, of_chunk)
}

/// A position without part in anything.
fn nothing(position: Position<'_>) -> Sums {
    if position.gradient {
        position.logits.fill(0.0);
    }
    [0.0; 6]
}

/// The text's cross entropy in nats; `room` gets e^(z − max) `[V]`, whose sum is answered.
#[inline(always)]
fn text(logits: &[f32], target: usize, room: &mut Vec<f32>) -> (f32, f32) {
    room.clear();
    room.extend_from_slice(logits);
    let largest = max(logits);
    let total = exp_sum(room, largest);
    (total.ln() + (largest - logits[target]), total)
}

/// A position's parts, unweighted, into its sums.
fn sums(weight: f32, parts: [f32; 5], mixture: &Mixture) -> Sums {
    let weight = f64::from(weight);
    let [ce, of @ ..] = parts.map(|part| weight * f64::from(part));
    let counts = mixture.divergences().map(f64::from);
    let divergences: f64 = of.iter().zip(counts).map(|(d, w)| d * w).sum();
    let total = f64::from(mixture.cross_entropy) * ce + divergences;
    [total, ce, of[0], of[1], of[2], of[3]]
}

/// One position beside the teacher's logits, which are used up.
#[inline(always)]
fn dense(
    position: Position<'_>,
    theirs: &mut [f32],
    mixture: &Mixture,
    room: &mut Vec<f32>,
) -> Sums {
    if position.weight == 0.0 {
        return nothing(position);
    }
    let Position {
        logits: z,
        target,
        weight,
        gradient,
    } = position;
    let (t, v) = (mixture.temperature, z.len());
    let (ce, total) = text(z, target, room);
    room.resize(2 * v, 0.0);
    let (text, h) = room.split_at_mut(v);
    let shared = v.min(theirs.len());
    let (ours, padding) = z.split_at_mut(shared);
    let (theirs, h) = (&mut theirs[..shared], &mut h[..shared]);
    h.fill(0.0);
    for logits in [&mut *ours, &mut *theirs] {
        let scale = 1.0 / t;
        let sum = log_sum_exp(logits, scale);
        for x in logits.iter_mut() {
            *x = *x * scale - sum;
        }
    }
    let parts = divergences(theirs, ours, h, mixture).map(|d| d * t * t);
    let [forward, reverse, js, tv] = parts;
    let sums = sums(weight, [ce, forward, reverse, js, tv], mixture);
    if gradient {
        let share = weight * t;
        let sum = sum_pairs(
            &*ours,
            &*ours,
            h,
            #[inline(always)]
            |_, _, h| *h,
        );
        for (z, h) in ours.iter_mut().zip(&*h) {
            *z = share * (h - exp(*z) * sum);
        }
        padding.fill(0.0);
        add_text(z, text, total, target, weight * mixture.cross_entropy);
    }
    sums
}

/// Adds the gradient of the text's cross entropy, which counts `share`, to `z`: `text` are e^(z − max),
/// `total` their sum.
#[inline(always)]
fn add_text(z: &mut [f32], text: &[f32], total: f32, target: usize, share: f32) {
    for (z, text) in z.iter_mut().zip(text) {
        *z += share / total * text;
    }
    z[target] -= share;
}

/// The four divergences between distributions given by their logarithms, those that count;
/// adds each one's weighted h to `h`.
#[inline(always)]
fn divergences(log_p: &[f32], log_q: &[f32], h: &mut [f32], mixture: &Mixture) -> [f32; 4] {
    let mut found = [0f32; 4];
    let [forward, reverse, js, tv] = mixture.divergences();
    if forward != 0.0 {
        found[0] = sum_pairs(
            log_p,
            log_q,
            h,
            #[inline(always)]
            |lp, lq, h| {
                let p = exp(lp);
                *h -= forward * p;
                p * (lp - lq)
            },
        );
    }
    if reverse != 0.0 {
        found[1] = sum_pairs(
            log_p,
            log_q,
            h,
            #[inline(always)]
            |lp, lq, h| {
                let term = exp(lq) * (lq - lp);
                *h += reverse * term;
                term
            },
        );
    }
    if js != 0.0 {
        let beta = mixture.beta;
        found[2] = sum_pairs(
            log_p,
            log_q,
            h,
            #[inline(always)]
            |lp, lq, h| {
                let (p, q) = (beta * exp(lp), (1.0 - beta) * exp(lq));
                let lm = ln(p + q);
                let of_q = q * (lq - lm);
                *h += js * of_q;
                p * (lp - lm) + of_q
            },
        );
    }
    if tv != 0.0 {
        found[3] = sum_pairs(
            log_p,
            log_q,
            h,
            #[inline(always)]
            |lp, lq, h| {
                let (p, q) = (exp(lp), exp(lq));
                let sign = if p > q { 0.5 } else { -0.5 };
                *h -= tv * sign * q;
                sign * (p - q)
            },
        );
    }
    found
}

/// One position beside a few of the teacher's probabilities.
#[inline(always)]
fn sparse(
    position: Position<'_>,
    (of, i): (&Sparse, usize),
    mixture: &Mixture,
    room: &mut Vec<f32>,
) -> Sums {
    if position.weight == 0.0 {
        return nothing(position);
    }
    let Position {
        logits: z,
        target,
        weight,
        gradient,
    } = position;
    let (t, v) = (mixture.temperature, z.len());
    let (ce, total) = text(z, target, room);
    let shared = v.min(of.vocabulary);
    let log_total = log_sum_exp(&z[..shared], 1.0 / t);
    let (ids, p) = of.entries(i);
    let at = |id: u32| z[id as usize] / t - log_total;
    let (parts, h, rest) = match &of.rest {
        Rest::Mass(masses) => outcomes(ids, p, masses[i], at, mixture),
        Rest::Sampled(entropies) => {
            let terms = ids.iter().zip(p).map(|(&id, &p)| -p * at(id));
            let kl = terms.sum::<f32>() - entropies[i];
            let h: Vec<f32> = p.iter().map(|p| -mixture.forward_kl * p).collect();
            ([kl, 0.0, 0.0, 0.0], h, 0.0)
        }
    };
    let [forward, reverse, js, tv] = parts.map(|d| d * t * t);
    let sums = sums(weight, [ce, forward, reverse, js, tv], mixture);
    if gradient {
        let q_of: Vec<f32> = ids.iter().map(|&id| exp(at(id))).collect();
        let all: f32 = h.iter().sum::<f32>() + rest * rest_of(&q_of);
        let (share, scale) = (weight * t, 1.0 / t);
        let (ours, padding) = z.split_at_mut(shared);
        for z in ours.iter_mut() {
            *z = share * exp(*z * scale - log_total) * (rest - all);
        }
        padding.fill(0.0);
        for ((&id, h), q) in ids.iter().zip(h).zip(q_of) {
            ours[id as usize] += share * (h - q * rest);
        }
        add_text(z, room, total, target, weight * mixture.cross_entropy);
    }
    sums
}

/// The student's probability of all ids but those with `q`.
fn rest_of(q: &[f32]) -> f32 {
    (1.0 - q.iter().sum::<f32>()).max(1e-30)
}

/// The divergences between the outcomes `ids` and any other; each id's h, and the h of the
/// others over their probability.
#[inline(always)]
fn outcomes(
    ids: &[u32],
    p: &[f32],
    mass: f32,
    log_q: impl Fn(u32) -> f32,
    mixture: &Mixture,
) -> ([f32; 4], Vec<f32>, f32) {
    const NEVER: f32 = 1e-30;
    let mut ours: Vec<f32> = ids.iter().map(|&id| log_q(id)).collect();
    let q: Vec<f32> = ours.iter().map(|&x| exp(x)).collect();
    let rest = rest_of(&q);
    ours.push(rest.ln());
    let theirs = p.iter().chain([&mass]).map(|p| p.max(NEVER).ln());
    let theirs: Vec<f32> = theirs.collect();
    let mut h = vec![0f32; ours.len()];
    let found = divergences(&theirs, &ours, &mut h, mixture);
    let of_rest = h.pop().unwrap_or(0.0);
    (found, h, of_rest / rest)
}
