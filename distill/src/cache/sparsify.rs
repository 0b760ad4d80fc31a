//! Sparsifies a distribution: from logits `[V]` to a [`SparseDistribution`].

use half::f16;
use rand::{Rng, RngExt};

use super::codec::{SparseDistribution, code};
use super::format::Sparsification;

/// Sparsifies softmax(`logits` / `temperature`). `logits` are overwritten by the probabilities.
pub(super) fn sparsify(
    logits: &mut [f32],
    sparsification: Sparsification,
    temperature: f32,
    random: &mut impl Rng,
) -> SparseDistribution {
    let entropy = softmax_in_place(logits, temperature);
    match sparsification {
        Sparsification::TopK { k } => top_k(logits, usize::from(k), random),
        Sparsification::Sampled { draws, proposal } => {
            let entries = sample(logits, usize::from(draws), proposal, random);
            SparseDistribution {
                entries,
                rest: f16::from_f64(entropy),
            }
        }
    }
}

/// Replaces logits by their softmax; returns its entropy in nats.
fn softmax_in_place(x: &mut [f32], temperature: f32) -> f64 {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    let mut weighted = 0.0;
    for x in x.iter_mut() {
        let scaled = (*x - largest) / temperature;
        *x = scaled.exp();
        total += f64::from(*x);
        weighted += f64::from(*x * scaled.max(-100.0));
    }
    for x in x.iter_mut() {
        *x = (f64::from(*x) / total) as f32;
    }
    (total.ln() - weighted / total).max(0.0)
}

/// The `k` largest of `p`, of equal ones the first; the rest is the mass of the others.
fn top_k(p: &[f32], k: usize, random: &mut impl Rng) -> SparseDistribution {
    let k = k.min(p.len());
    let mut order: Vec<u32> = Vec::with_capacity(k);
    if k > 0 {
        // Selecting among the values alone is faster than among pairs.
        let mut values = p.to_vec();
        let (_, &mut least, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let of = |keep: fn(f32, f32) -> bool| {
            let ids = (0..p.len() as u32).zip(p);
            ids.filter(move |(_, p)| keep(**p, least)).map(|(id, _)| id)
        };
        order.extend(of(|p, least| p > least));
        let ties = k - order.len();
        order.extend(of(|p, least| p == least).take(ties));
        order.sort_unstable();
    }
    let kept: f64 = order.iter().map(|&id| f64::from(p[id as usize])).sum();
    let entry = |id: u32| Some((id, code(p[id as usize], random.random())?));
    SparseDistribution {
        entries: order.into_iter().filter_map(entry).collect(),
        rest: f16::from_f64((1.0 - kept).max(0.0)),
    }
}

/// `draws` ids from q ∝ p^`proposal`, each with its share of the draws times p / q: their
/// expectation is p.
fn sample(p: &[f32], draws: usize, proposal: f32, random: &mut impl Rng) -> Vec<(u32, u16)> {
    let q = |p: f32| match proposal {
        1.0 => f64::from(p),
        _ => f64::from(p.powf(proposal)),
    };
    let total: f64 = p.iter().map(|&p| q(p)).sum();
    let mut at: Vec<f64> = (0..draws).map(|_| random.random::<f64>() * total).collect();
    at.sort_unstable_by(f64::total_cmp);
    let mut entries = Vec::new();
    let (mut sum, mut drawn) = (0.0, 0);
    for (id, &p) in p.iter().enumerate() {
        let of = q(p);
        sum += of;
        let first = drawn;
        while drawn < draws && at[drawn] < sum {
            drawn += 1;
        }
        if drawn > first {
            let share = (drawn - first) as f64 / draws as f64;
            let weight = (share * f64::from(p) * total / of) as f32;
            entries.extend(code(weight, random.random()).map(|code| (id as u32, code)));
        }
        if drawn == draws {
            break;
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::codec::probability;
    use super::*;

    fn logits() -> Vec<f32> {
        (0..40)
            .map(|i| ((i * 17 % 23) as f32 - 11.0) / 3.0)
            .collect()
    }

    fn softmax(t: f64) -> Vec<f64> {
        let e: Vec<f64> = logits().iter().map(|&x| (f64::from(x) / t).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|x| x / sum).collect()
    }

    #[test]
    fn the_most_likely_ids_and_the_mass_of_the_others() {
        let p = softmax(2.0);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let position = sparsify(
            &mut logits(),
            Sparsification::TopK { k: 7 },
            2.0,
            &mut random,
        );
        let mut order: Vec<usize> = (0..40).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
        order.truncate(7);
        let kept: f64 = order.iter().map(|&id| p[id]).sum();
        order.sort_unstable();
        let ids: Vec<usize> = position.entries.iter().map(|e| e.0 as usize).collect();
        assert_eq!(ids, order);
        for &(id, code) in &position.entries {
            assert!((f64::from(probability(code)) / p[id as usize]).ln().abs() < 1.0 / 31.0);
        }
        assert!((position.rest.to_f64() - (1.0 - kept)).abs() < 1e-3);
    }

    #[test]
    fn samples_are_the_distribution_on_average() {
        for proposal in [1.0, 0.7] {
            let p = softmax(1.0);
            let mut random = ChaCha8Rng::seed_from_u64(2);
            let choice = Sparsification::Sampled {
                draws: 20,
                proposal,
            };
            let mut mean = vec![0.0; 40];
            let n = 20_000;
            for _ in 0..n {
                let position = sparsify(&mut logits(), choice, 1.0, &mut random);
                for (id, code) in position.entries {
                    mean[id as usize] += f64::from(probability(code)) / f64::from(n);
                }
                let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
                assert!((position.rest.to_f64() - entropy).abs() < 2e-3 * entropy);
            }
            for (mean, p) in mean.iter().zip(&p) {
                // Five standard errors of a share of 400,000 draws, doubled for the weights.
                let bound = 10.0 * (p / 400_000.0).sqrt();
                assert!((mean - p).abs() < bound, "{proposal}: {mean} {p}");
            }
        }
    }
}
