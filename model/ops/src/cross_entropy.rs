//! Cross entropy of the head's logits, `Σ weight · (log Σ exp(z) − z[target])` in nats, as one
//! operation with the head on burn-flex, and composed of Burn's operations from logits.

use burn::tensor::{Int, Tensor, activation};
use rayon::prelude::*;

use crate::lm_head_loss::{HeadLoss, LmHead, Targets, lm_head_loss};
use crate::simd::{exp_sum, max, simd};

/// `Σ weight · −log softmax(logits)[target]` in nats, `[1]`, composed of Burn's operations:
/// logits `[N, V]`, `targets` `[N]` below V, `weights` `[N]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let log_probs = activation::log_softmax(logits, 1);
    let of_targets = log_probs.gather(1, targets.unsqueeze_dim(1));
    (of_targets * weights.unsqueeze_dim(1)).sum().neg()
}

/// The same of the logits of `x` `[N, D]` under `head`, a chunk of which exists at once; both
/// [`fused`](crate::fused).
pub fn linear_cross_entropy(
    x: Tensor<2>,
    head: LmHead,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    lm_head_loss(CrossEntropy, x, head, targets, weights)
}

#[derive(Debug)]
struct CrossEntropy;

impl HeadLoss for CrossEntropy {
    const SUMS: usize = 1;

    fn sums(&self, targets: Targets<'_>, logits: &mut [f32], gradient: bool) -> Vec<f64> {
        let v = logits.len() / targets.ids.len().max(1);
        let terms: Vec<f64> = logits
            .par_chunks_exact_mut(v)
            .zip(targets.ids.par_iter().zip(targets.weights))
            .map(|(row, (&target, &weight))| simd!(position(row, target, weight, gradient)))
            .collect();
        vec![terms.iter().sum()]
    }
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::testing::*;

    #[test]
    fn linear_cross_entropy_gradients_match_composed_form_and_central_differences() {
        let device = Device::flex().autodiff();
        for (n, d, v, tied) in [
            (5, 6, 11, false),
            (5, 6, 11, true),
            (300, 16, 1 << 17, true),
        ] {
            let inputs = rounded(vec![values(n * d, 1), values(d * v, 2)]);
            let targets: Vec<i32> = (0..n).map(|i| ((i * 7919 + 3) % v) as i32).collect();
            let weights: Vec<f64> = (0..n)
                .map(|i| if i % 4 == 2 { 0.0 } else { 0.25 })
                .collect();
            let shape = if tied { [v, d] } else { [d, v] };
            let tensors = [
                tensor(&inputs[0], [n, d], &device),
                tensor(&inputs[1], shape, &device),
            ];
            let ids =
                || Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [n]), &device);
            let share = || tensor(&weights, [n], &device);
            let lm_head = |weight| LmHead { weight, tied };
            let fused = gradients(&tensors, |x| {
                linear_cross_entropy(x[0].clone(), lm_head(x[1].clone()), ids(), share()) * 3.0
            });
            let composed = gradients(&tensors, |x| {
                let head = if tied {
                    x[1].clone().transpose()
                } else {
                    x[1].clone()
                };
                cross_entropy(x[0].clone().matmul(head), ids(), share()) * 3.0
            });
            close(&[fused.0], &[composed.0], 1e-5, "loss");
            for (a, b) in fused.1.iter().zip(&composed.1) {
                close(a, b, 1e-5, "linear cross entropy");
            }
            let [x, head] = tensors.map(|t| t.inner());
            let (ids, share) = (ids().inner(), share().inner());
            let plain: f32 = linear_cross_entropy(x, lm_head(head), ids, share).into_scalar();
            close(&[3.0 * plain], &[fused.0], 1e-6, "loss without gradients");
            if n > 5 {
                continue;
            }
            for which in 0..2 {
                check_differences(&inputs, which, &fused.1[which], &|inputs| {
                    let position = |i: usize| {
                        let logit = |j: usize| -> f64 {
                            let at = |x: usize| if tied { j * d + x } else { x * v + j };
                            (0..d)
                                .map(|x| inputs[0][i * d + x] * inputs[1][at(x)])
                                .sum()
                        };
                        let sum: f64 = (0..v).map(|j| logit(j).exp()).sum();
                        3.0 * weights[i] * (sum.ln() - logit(targets[i] as usize))
                    };
                    (0..n).map(position).sum()
                });
            }
        }
    }
}
