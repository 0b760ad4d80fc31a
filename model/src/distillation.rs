//! What a student learns from a teacher's distributions: which divergences, at which
//! temperature, beside the text itself.
//!
//! In: the student's hidden states `[N, D]` and its head, the text's next ids, and a
//! [`Lesson`]. Out: `Σ weight · (c · CE + T² · Σ w · D(p ‖ q))` in nats, where `p` and `q` are
//! the teacher's and the student's softmax at temperature T over the ids that both have, and
//! CE the text's cross entropy at temperature 1 over all ids. The factor T² keeps the size of
//! the gradient independent of the temperature (Hinton et al., arXiv 1503.02531, section 2).
//!
//! On the CPU the head, the losses and their gradients are one operation over chunks of
//! positions (`ops/distillation.rs`); elsewhere the same is composed of Burn's operations,
//! chunk by chunk, so that no more than a chunk's logits exist at once there either.

use std::fmt;
use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::ops;

/// How far the student's distribution q may be from the teacher's p, and what each measure
/// counts. All are 0 where there is no loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// T, above 0.
    pub temperature: f32,
    /// Of the text's next ids, at temperature 1.
    pub cross_entropy: f32,
    /// KL(p ‖ q) = Σ p log(p / q).
    pub forward_kl: f32,
    /// KL(q ‖ p).
    pub reverse_kl: f32,
    /// β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q (Agarwal et al., GKD, arXiv
    /// 2306.13649).
    pub jensen_shannon: f32,
    /// β of it, between 0 and 1 and neither.
    pub beta: f32,
    /// ½ Σ |p − q|.
    pub total_variation: f32,
    /// Positions whose logits exist at once, at most; 0 leaves it to the vocabulary.
    pub chunk: usize,
}

impl Default for Mixture {
    /// Nothing, at temperature 1.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            cross_entropy: 0.0,
            forward_kl: 0.0,
            reverse_kl: 0.0,
            jensen_shannon: 0.0,
            beta: 0.5,
            total_variation: 0.0,
            chunk: 0,
        }
    }
}

impl Mixture {
    /// The divergences' weights: forward KL, reverse KL, Jensen-Shannon, total variation.
    pub fn divergences(&self) -> [f32; 4] {
        [
            self.forward_kl,
            self.reverse_kl,
            self.jensen_shannon,
            self.total_variation,
        ]
    }
}

/// Logits `[n, V]`, row by row, of a range of positions.
pub type LogitsOf = Box<dyn Fn(Range<usize>) -> Vec<f32> + Send + Sync>;

/// What a teacher says about N positions.
pub enum Lesson {
    /// Its logits, computed when they are due.
    Dense {
        /// Ids that they are of, V.
        vocabulary: usize,
        /// Where they come from.
        logits: LogitsOf,
    },
    /// A few probabilities of each position.
    Sparse(Sparse),
}

impl fmt::Debug for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense { vocabulary, .. } => write!(f, "Dense({vocabulary} ids)"),
            Self::Sparse(sparse) => sparse.fmt(f),
        }
    }
}

/// A few probabilities of each of N positions, at the mixture's temperature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Ids that the distribution is over, at most as many as the student's.
    pub vocabulary: usize,
    /// Where each position's entries start, and where the last one's end, `[N + 1]`.
    pub offsets: Vec<usize>,
    /// Ids below `vocabulary`, no id twice in a position.
    pub ids: Vec<u32>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
    /// What the entries leave out.
    pub rest: Rest,
}

/// What is known of the ids that are not among a position's entries.
#[derive(Clone, Debug, PartialEq)]
pub enum Rest {
    /// Their probability together, `[N]`: they are compared as one outcome.
    Mass(Vec<f32>),
    /// The entries are a random sample that stands for all (Anshumann et al., arXiv
    /// 2503.16870); `[N]` entropies of the distributions in nats. Only [`Mixture::forward_kl`]
    /// can be estimated from it: its estimate, and its gradient's, are unbiased.
    Sampled(Vec<f32>),
}

impl Default for Rest {
    fn default() -> Self {
        Self::Mass(Vec::new())
    }
}

/// A loss, and what it is made of.
#[derive(Debug)]
pub struct Distilled {
    /// What is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// The text's cross entropy, and the divergences in the order of
    /// [`Mixture::divergences`], each as if it counted once; 0 where it does not count.
    /// Constants.
    pub parts: [Tensor<1>; 5],
}

/// The student's side: hidden states `[N, D]` and its head, `[D, V]` or, tied, `[V, D]`.
pub(crate) struct Student {
    pub hidden: Tensor<2>,
    pub head: Tensor<2>,
    pub tied: bool,
}

/// The loss of a student on text `targets` `[N]`, positions counting `weights` `[N]`.
pub(crate) fn distillation(
    student: Student,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    lesson: Lesson,
    mixture: Mixture,
) -> Distilled {
    let x = if ops::fused(&student.hidden) && ops::fused(&student.head) {
        ops::linear_distillation(student, targets, weights, lesson, mixture)
    } else {
        composed(student, targets, weights, &lesson, mixture)
    };
    let part = |i: usize| x.clone().narrow(0, i, 1);
    Distilled {
        total: part(0),
        parts: std::array::from_fn(|i| part(i + 1).detach()),
    }
}

/// The same of Burn's operations: `[6]`, the total and the parts. Each chunk has a backward
/// pass of its own, whose gradients a linear function of the inputs then carries on.
pub(crate) fn composed(
    student: Student,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    lesson: &Lesson,
    mixture: Mixture,
) -> Tensor<1> {
    let Student { hidden, head, tied } = student;
    let ([n, _], tracked) = (hidden.dims(), hidden.device().is_autodiff());
    let leaf = |x: &Tensor<2>| match tracked {
        true => x.clone().detach().require_grad(),
        false => x.clone(),
    };
    let mut sums: Option<Tensor<1>> = None;
    let mut carried: Option<Tensor<1>> = None;
    let v = head.dims()[if tied { 0 } else { 1 }];
    let chunk = ops::chunk(n, v, mixture.chunk);
    for first in (0..n).step_by(chunk) {
        let rows = first..n.min(first + chunk);
        let x = leaf(&hidden.clone().slice([rows.clone()]));
        let w = leaf(&head);
        let matrix = if tied {
            w.clone().transpose()
        } else {
            w.clone()
        };
        let terms = terms(
            x.clone().matmul(matrix),
            targets.clone().slice([rows.clone()]),
            weights.clone().slice([rows.clone()]),
            (lesson, rows.clone()),
            mixture,
        );
        if tracked {
            let grads = terms.clone().narrow(0, 0, 1).backward();
            let carry = |x: Tensor<2>, leaf: &Tensor<2>| {
                let gradient = leaf.grad(&grads).expect("the logits depend on it");
                (x * Tensor::from_inner(gradient)).sum()
            };
            let more = carry(hidden.clone().slice([rows]), &x) + carry(head.clone(), &w);
            carried = Some(match carried {
                Some(sum) => sum + more,
                None => more,
            });
        }
        let terms = terms.detach();
        sums = Some(match sums {
            Some(sum) => sum + terms,
            None => terms,
        });
    }
    let sums = sums.unwrap_or_else(|| Tensor::zeros([6], &hidden.device()));
    match carried {
        // Its value is taken away again: only the gradient is wanted.
        Some(carried) => {
            let nothing = carried.clone() - carried.detach();
            let total = sums.clone().narrow(0, 0, 1) + nothing;
            Tensor::cat(vec![total, sums.narrow(0, 1, 5)], 0)
        }
        None => sums,
    }
}

/// The total and the parts, `[6]`, of logits `[n, V]`.
fn terms(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    (lesson, rows): (&Lesson, Range<usize>),
    mixture: Mixture,
) -> Tensor<1> {
    let ([n, v], t) = (logits.dims(), mixture.temperature);
    let ce = ops::cross_entropy(logits.clone(), targets, weights.clone());
    let shared = v.min(lesson.vocabulary());
    let log_q = activation::log_softmax(logits.slice([0..n, 0..shared]) / t, 1);
    let (log_p, log_q) = match lesson {
        Lesson::Dense { vocabulary, logits } => {
            let data = TensorData::new(logits(rows), [n, *vocabulary]);
            let logits = Tensor::<2>::from_data(data, &log_q.device());
            let log_p = activation::log_softmax(logits.slice([0..n, 0..shared]) / t, 1);
            (log_p, log_q)
        }
        Lesson::Sparse(sparse) => match &sparse.rest {
            Rest::Mass(masses) => sparse.outcomes(rows, log_q, masses),
            Rest::Sampled(entropies) => {
                let estimate = sparse.estimate(rows, log_q, entropies);
                let kl = (estimate * weights).sum() * (t * t);
                let total = ce.clone() * mixture.cross_entropy + kl.clone() * mixture.forward_kl;
                let others = Tensor::zeros([3], &total.device());
                return Tensor::cat(vec![total, ce, kl, others], 0);
            }
        },
    };
    let weighted = |d: Tensor<2>| (d.sum_dim(1).squeeze_dim(1) * weights.clone()).sum() * (t * t);
    let (p, q) = (log_p.clone().exp(), log_q.clone().exp());
    let beta = mixture.beta;
    let when = |weight: f32, d: &dyn Fn() -> Tensor<2>| match weight {
        0.0 => Tensor::zeros([1], &weights.device()),
        _ => weighted(d()),
    };
    let parts = [
        when(mixture.forward_kl, &|| {
            p.clone() * (log_p.clone() - log_q.clone())
        }),
        when(mixture.reverse_kl, &|| {
            q.clone() * (log_q.clone() - log_p.clone())
        }),
        when(mixture.jensen_shannon, &|| {
            let log_m = (p.clone() * beta + q.clone() * (1.0 - beta)).log();
            p.clone() * (log_p.clone() - log_m.clone()) * beta
                + q.clone() * (log_q.clone() - log_m) * (1.0 - beta)
        }),
        when(mixture.total_variation, &|| {
            (p.clone() - q.clone()).abs() * 0.5
        }),
    ];
    let mut total = ce.clone() * mixture.cross_entropy;
    for (part, weight) in parts.iter().zip(mixture.divergences()) {
        total = total + part.clone() * weight;
    }
    let [a, b, c, d] = parts;
    Tensor::cat(vec![total, ce, a, b, c, d], 0)
}

impl Lesson {
    /// Ids that the teacher's distributions are over.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Dense { vocabulary, .. } => *vocabulary,
            Self::Sparse(sparse) => sparse.vocabulary,
        }
    }
}

impl Sparse {
    /// The entries of position `i`: ids and probabilities.
    pub fn entries(&self, i: usize) -> (&[u32], &[f32]) {
        let at = self.offsets[i]..self.offsets[i + 1];
        (&self.ids[at.clone()], &self.probabilities[at])
    }

    /// The entries of `rows`, as many in each as in the longest: the teacher's probabilities,
    /// the student's logarithms of `log_q` `[n, V]`, and 1 where there is an entry; `[n, K]`.
    fn at_entries(&self, rows: Range<usize>, log_q: Tensor<2>) -> [Tensor<2>; 3] {
        let (n, device) = (rows.len(), log_q.device());
        let most = rows.clone().map(|i| self.entries(i).0.len()).max();
        let most = most.unwrap_or(0).max(1);
        let mut ids = vec![0i32; n * most];
        let (mut p, mut there) = (vec![0f32; n * most], vec![0f32; n * most]);
        for (k, i) in rows.enumerate() {
            let (row_ids, row_p) = self.entries(i);
            for (j, (&id, &probability)) in row_ids.iter().zip(row_p).enumerate() {
                ids[k * most + j] = id as i32;
                p[k * most + j] = probability;
                there[k * most + j] = 1.0;
            }
        }
        let put = |x: Vec<f32>| Tensor::<2>::from_data(TensorData::new(x, [n, most]), &device);
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [n, most]), &device);
        [put(p), log_q.gather(1, ids), put(there)]
    }

    /// Logarithms of the teacher's and of the student's probabilities of the same outcomes: the
    /// entries of `rows` and all others together. Outcomes that a row lacks are as good as
    /// impossible on both sides.
    fn outcomes(
        &self,
        rows: Range<usize>,
        log_q: Tensor<2>,
        masses: &[f32],
    ) -> (Tensor<2>, Tensor<2>) {
        const NEVER: f32 = 1e-30;
        let rest_of_p = column(&masses[rows.clone()], &log_q);
        let [p, log_q, there] = self.at_entries(rows, log_q);
        let q = log_q.exp() * there;
        let rest = (q.clone().sum_dim(1).neg() + 1.0).clamp_min(NEVER);
        let q = Tensor::cat(vec![q.clamp_min(NEVER), rest], 1);
        let p = Tensor::cat(vec![p, rest_of_p], 1).clamp_min(NEVER);
        (p.log(), q.log())
    }

    /// The forward divergence as the entries of `rows`, a sample, estimate it, `[n]`.
    fn estimate(&self, rows: Range<usize>, log_q: Tensor<2>, entropies: &[f32]) -> Tensor<1> {
        let entropies = column(&entropies[rows.clone()], &log_q);
        let [p, log_q, _] = self.at_entries(rows, log_q);
        let cross = (p * log_q).sum_dim(1).neg();
        (cross - entropies).squeeze_dim(1)
    }
}

/// Numbers `[n]` as `[n, 1]` where `like` is.
fn column(x: &[f32], like: &Tensor<2>) -> Tensor<2> {
    let data = TensorData::new(x.to_vec(), [x.len(), 1]);
    Tensor::from_data(data, &like.device())
}

#[cfg(test)]
mod tests;
