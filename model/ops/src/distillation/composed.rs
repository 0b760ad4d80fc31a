//! The loss of [`distillation`](super) composed of Burn's operations, a chunk of positions at a
//! time, for devices without the kernel.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData, activation};

use super::loss_weights::LossWeights;
use super::teacher_logits::{Sparse, Tail, TeacherLogits};
use crate::cross_entropy::cross_entropy;
use crate::lm_head_loss::{LmHead, chunk};

/// `[6]`, the total and the parts. Each chunk has a backward pass of its own; a linear function of
/// the inputs passes its gradients on.
pub(super) fn composed(
    (hidden, head): (Tensor<2>, LmHead),
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    teacher: &TeacherLogits,
    loss_weights: LossWeights,
) -> Tensor<1> {
    let LmHead { weight: head, tied } = head;
    let ([n, _], tracked) = (hidden.dims(), hidden.device().is_autodiff());
    let leaf = |x: &Tensor<2>| {
        if tracked {
            x.clone().detach().require_grad()
        } else {
            x.clone()
        }
    };
    let mut sums: Option<Tensor<1>> = None;
    let mut carried: Option<Tensor<1>> = None;
    // Summed here, or each chunk's would stay until the backward pass.
    let mut head_gradient: Option<Tensor<2>> = None;
    let v = head.dims()[if tied { 0 } else { 1 }];
    let chunk = chunk(n, v, loss_weights.chunk);
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
            (teacher, rows.clone()),
            loss_weights,
        );
        if tracked {
            let grads = terms.clone().narrow(0, 0, 1).backward();
            let gradient = |x: &Tensor<2>| x.grad(&grads).expect("the logits depend on it");
            add(
                &mut carried,
                carry(hidden.clone().slice([rows]), gradient(&x)),
            );
            add(&mut head_gradient, gradient(&w));
        }
        add(&mut sums, terms.detach());
    }
    if let Some(gradient) = head_gradient {
        add(&mut carried, carry(head, gradient));
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

/// A number whose gradient in `x` is `gradient`, which is on the device without autodiff.
fn carry(x: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    (x * Tensor::from_inner(gradient)).sum()
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, x: Tensor<D>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + x,
        None => x,
    });
}

/// The total and the parts, `[6]`, of logits `[n, V]`.
fn terms(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    (teacher, rows): (&TeacherLogits, Range<usize>),
    loss_weights: LossWeights,
) -> Tensor<1> {
    let ([n, v], t) = (logits.dims(), loss_weights.temperature);
    let ce = cross_entropy(logits.clone(), targets, weights.clone());
    let shared = v.min(teacher.vocabulary());
    let log_q = activation::log_softmax(logits.slice([0..n, 0..shared]) / t, 1);
    let (log_p, log_q) = match teacher {
        TeacherLogits::Dense { vocabulary, logits } => {
            let data = TensorData::new(logits(rows), [n, *vocabulary]);
            let logits = Tensor::<2>::from_data(data, &log_q.device());
            let log_p = activation::log_softmax(logits.slice([0..n, 0..shared]) / t, 1);
            (log_p, log_q)
        }
        TeacherLogits::Sparse(sparse) => match &sparse.tail {
            Tail::Mass(masses) => sparse.outcomes(rows, log_q, masses),
            Tail::Sampled(entropies) => {
                let estimate = sparse.estimate(rows, log_q, entropies);
                let kl = (estimate * weights).sum() * (t * t);
                let total =
                    ce.clone() * loss_weights.cross_entropy + kl.clone() * loss_weights.forward_kl;
                let others = Tensor::zeros([3], &total.device());
                return Tensor::cat(vec![total, ce, kl, others], 0);
            }
        },
    };
    let weighted = |d: Tensor<2>| (d.sum_dim(1).squeeze_dim(1) * weights.clone()).sum() * (t * t);
    let (p, q) = (log_p.clone().exp(), log_q.clone().exp());
    let beta = loss_weights.beta;
    let when = |weight: f32, d: &dyn Fn() -> Tensor<2>| match weight {
        0.0 => Tensor::zeros([1], &weights.device()),
        _ => weighted(d()),
    };
    let parts = [
        when(loss_weights.forward_kl, &|| {
            p.clone() * (log_p.clone() - log_q.clone())
        }),
        when(loss_weights.reverse_kl, &|| {
            q.clone() * (log_q.clone() - log_p.clone())
        }),
        when(loss_weights.jensen_shannon, &|| {
            let log_m = (p.clone() * beta + q.clone() * (1.0 - beta)).log();
            p.clone() * (log_p.clone() - log_m.clone()) * beta
                + q.clone() * (log_q.clone() - log_m) * (1.0 - beta)
        }),
        when(loss_weights.total_variation, &|| {
            (p.clone() - q.clone()).abs() * 0.5
        }),
    ];
    let mut total = ce.clone() * loss_weights.cross_entropy;
    for (part, weight) in parts.iter().zip(loss_weights.divergences()) {
        total = total + part.clone() * weight;
    }
    let [a, b, c, d] = parts;
    Tensor::cat(vec![total, ce, a, b, c, d], 0)
}

impl Sparse {
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
