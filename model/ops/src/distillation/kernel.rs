//! The loss of [`distillation`](super) on slices: a chunk's sums and, in the logits' place, their
//! gradients (`divergences.rs` has the formula).

use rayon::prelude::*;

use super::divergences::{divergences, outcomes, rest_of};
use super::loss_weights::LossWeights;
use super::teacher_logits::{Sparse, Tail, TeacherLogits};
use crate::lm_head_loss::{HeadLoss, Targets};
use crate::simd::{exp, exp_sum, log_sum_exp, max, simd, sum_pairs};

/// The loss and its parts: cross entropy and the four divergences.
type Sums = [f64; 6];

/// A teacher's distributions at all positions, and how they count.
#[derive(Debug)]
pub(super) struct Distillation {
    pub teacher: TeacherLogits,
    pub loss_weights: LossWeights,
}

/// The student's side of one position.
struct Position<'a> {
    logits: &'a mut [f32],
    target: usize,
    weight: f32,
    gradient: bool,
}

impl HeadLoss for Distillation {
    const SUMS: usize = 6;

    fn chunk(&self) -> usize {
        self.loss_weights.chunk
    }

    fn sums(&self, targets: Targets<'_>, logits: &mut [f32], gradient: bool) -> Vec<f64> {
        let Self {
            teacher,
            loss_weights,
        } = self;
        let rows = targets.rows;
        let v = logits.len() / rows.len().max(1);
        let positions = logits
            .par_chunks_exact_mut(v)
            .zip(targets.ids.par_iter().zip(targets.weights))
            .map(|(logits, (&target, &weight))| Position {
                logits,
                target,
                weight,
                gradient,
            });
        let terms: Vec<Sums> = match teacher {
            TeacherLogits::Dense { vocabulary, logits } => {
                let mut theirs = logits(rows.clone());
                assert_eq!(
                    theirs.len(),
                    rows.len() * vocabulary,
                    "the teacher's logits"
                );
                positions
                    .zip(theirs.par_chunks_exact_mut(*vocabulary))
                    .map_init(Vec::new, |room, (position, theirs)| {
                        simd(
                            #[inline(always)]
                            || dense(position, theirs, loss_weights, room),
                        )
                    })
                    .collect()
            }
            TeacherLogits::Sparse(of) => positions
                .zip(rows.into_par_iter())
                .map_init(Vec::new, |room, (position, i)| {
                    simd(
                        #[inline(always)]
                        || sparse(position, (of, i), loss_weights, room),
                    )
                })
                .collect(),
        };
        let mut sums = vec![0.0; 6];
        for term in terms {
            for (sum, term) in sums.iter_mut().zip(term) {
                *sum += term;
            }
        }
        sums
    }
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
fn sums(weight: f32, parts: [f32; 5], loss_weights: &LossWeights) -> Sums {
    let weight = f64::from(weight);
    let [ce, of @ ..] = parts.map(|part| weight * f64::from(part));
    let counts = loss_weights.divergences().map(f64::from);
    let divergences: f64 = of.iter().zip(counts).map(|(d, w)| d * w).sum();
    let total = f64::from(loss_weights.cross_entropy) * ce + divergences;
    [total, ce, of[0], of[1], of[2], of[3]]
}

/// One position beside the teacher's logits, which are used up.
#[inline(always)]
fn dense(
    position: Position<'_>,
    theirs: &mut [f32],
    loss_weights: &LossWeights,
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
    let (t, v) = (loss_weights.temperature, z.len());
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
    let parts = divergences(theirs, ours, h, loss_weights).map(|d| d * t * t);
    let [forward, reverse, js, tv] = parts;
    let sums = sums(weight, [ce, forward, reverse, js, tv], loss_weights);
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
        add_text(z, text, total, target, weight * loss_weights.cross_entropy);
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

/// One position beside a few of the teacher's probabilities.
#[inline(always)]
fn sparse(
    position: Position<'_>,
    (of, i): (&Sparse, usize),
    loss_weights: &LossWeights,
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
    let (t, v) = (loss_weights.temperature, z.len());
    let (ce, total) = text(z, target, room);
    let shared = v.min(of.vocabulary);
    let log_total = log_sum_exp(&z[..shared], 1.0 / t);
    let (ids, p) = of.entries(i);
    let at = |id: u32| z[id as usize] / t - log_total;
    let (parts, h, rest) = match &of.tail {
        Tail::Mass(masses) => outcomes(ids, p, masses[i], at, loss_weights),
        Tail::Sampled(entropies) => {
            let terms = ids.iter().zip(p).map(|(&id, &p)| -p * at(id));
            let kl = terms.sum::<f32>() - entropies[i];
            let h: Vec<f32> = p.iter().map(|p| -loss_weights.forward_kl * p).collect();
            ([kl, 0.0, 0.0, 0.0], h, 0.0)
        }
    };
    let [forward, reverse, js, tv] = parts.map(|d| d * t * t);
    let sums = sums(weight, [ce, forward, reverse, js, tv], loss_weights);
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
        add_text(z, room, total, target, weight * loss_weights.cross_entropy);
    }
    sums
}
