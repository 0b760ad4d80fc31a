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
                let n = rows.len() * vocabulary;
                assert_eq!(theirs.len(), n, "the teacher's logits");
                let theirs = theirs.par_chunks_exact_mut(*vocabulary);
                let terms =
                    positions
                        .zip(theirs)
                        .map_init(Scratch::default, |scratch, (at, theirs)| {
                            simd!(at.sums(
                                *vocabulary,
                                loss_weights,
                                scratch,
                                dense(theirs, loss_weights)
                            ))
                        });
                terms.collect()
            }
            TeacherLogits::Sparse(of) => {
                let terms = positions.zip(rows.into_par_iter());
                let terms = terms.map_init(Scratch::default, |scratch, (at, i)| {
                    simd!(at.sums(
                        of.vocabulary,
                        loss_weights,
                        scratch,
                        sparse(of, i, loss_weights)
                    ))
                });
                terms.collect()
            }
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

/// Buffers of one thread, kept between positions.
#[derive(Default)]
struct Scratch {
    /// e^(z − max) `[V]`.
    text: Vec<f32>,
    /// The derivatives h of `divergences.rs` `[V]`.
    h: Vec<f32>,
}

/// The divergences of a position's logits `[shared ids]` from the teacher. With a weight of the
/// gradient, the logits become their gradients.
trait Divergences: FnOnce(&mut [f32], Option<f32>, &mut Vec<f32>) -> [f32; 4] {}
impl<F: FnOnce(&mut [f32], Option<f32>, &mut Vec<f32>) -> [f32; 4]> Divergences for F {}

impl Position<'_> {
    /// The position's sums beside a teacher with `vocabulary` ids; its logits become their
    /// gradients if they are wanted.
    #[inline(always)]
    fn sums(
        self,
        vocabulary: usize,
        loss_weights: &LossWeights,
        scratch: &mut Scratch,
        divergences: impl Divergences,
    ) -> Sums {
        let z = self.logits;
        if self.weight == 0.0 {
            if self.gradient {
                z.fill(0.0);
            }
            return [0.0; 6];
        }
        // The text's cross entropy.
        let Scratch { text, h } = scratch;
        text.clear();
        text.extend_from_slice(z);
        let largest = max(z);
        let total = exp_sum(text, largest);
        let ce = total.ln() + (largest - z[self.target]);
        let t = loss_weights.temperature;
        let (ours, padding) = z.split_at_mut(z.len().min(vocabulary));
        let share = self.gradient.then_some(self.weight * t);
        let divergences = divergences(ours, share, h).map(|d| d * t * t);
        if self.gradient {
            padding.fill(0.0);
            let share = self.weight * loss_weights.cross_entropy;
            for (z, text) in z.iter_mut().zip(&*text) {
                *z += share / total * text;
            }
            z[self.target] -= share;
        }
        let weight = f64::from(self.weight);
        let ce = weight * f64::from(ce);
        let [forward, reverse, js, tv] = divergences.map(|d| weight * f64::from(d));
        let counts = loss_weights.divergences().map(f64::from);
        let terms = [forward, reverse, js, tv].into_iter().zip(counts);
        let divergences: f64 = terms.map(|(d, w)| d * w).sum();
        let total = f64::from(loss_weights.cross_entropy) * ce + divergences;
        [total, ce, forward, reverse, js, tv]
    }
}

/// [`Divergences`] from the teacher's logits `theirs`, which are used up.
#[inline(always)]
fn dense(theirs: &mut [f32], loss_weights: &LossWeights) -> impl Divergences {
    #[inline(always)]
    move |ours: &mut [f32], gradient_weight: Option<f32>, h: &mut Vec<f32>| {
        let theirs = &mut theirs[..ours.len()];
        h.clear();
        h.resize(ours.len(), 0.0);
        for logits in [&mut *ours, &mut *theirs] {
            let scale = 1.0 / loss_weights.temperature;
            let sum = log_sum_exp(logits, scale);
            for x in logits.iter_mut() {
                *x = *x * scale - sum;
            }
        }
        let found = divergences(theirs, ours, h, loss_weights);
        if let Some(share) = gradient_weight {
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
        }
        found
    }
}

/// [`Divergences`] from a few of the teacher's probabilities, those of position `i` in `of`.
#[inline(always)]
fn sparse(of: &Sparse, i: usize, loss_weights: &LossWeights) -> impl Divergences {
    #[inline(always)]
    move |ours: &mut [f32], gradient_weight: Option<f32>, _: &mut Vec<f32>| {
        let t = loss_weights.temperature;
        let log_total = log_sum_exp(ours, 1.0 / t);
        let (ids, p) = of.entries(i);
        let at = |id: u32| ours[id as usize] / t - log_total;
        let (found, h, rest) = match &of.tail {
            Tail::Mass(masses) => outcomes(ids, p, masses[i], at, loss_weights),
            Tail::Sampled(entropies) => {
                let terms = ids.iter().zip(p).map(|(&id, &p)| -p * at(id));
                let kl = terms.sum::<f32>() - entropies[i];
                let h: Vec<f32> = p.iter().map(|p| -loss_weights.forward_kl * p).collect();
                ([kl, 0.0, 0.0, 0.0], h, 0.0)
            }
        };
        if let Some(share) = gradient_weight {
            let q_of: Vec<f32> = ids.iter().map(|&id| exp(at(id))).collect();
            let all: f32 = h.iter().sum::<f32>() + rest * rest_of(&q_of);
            let scale = 1.0 / t;
            for z in ours.iter_mut() {
                *z = share * exp(*z * scale - log_total) * (rest - all);
            }
            for ((&id, h), q) in ids.iter().zip(h).zip(q_of) {
                ours[id as usize] += share * (h - q * rest);
            }
        }
        found
    }
}
