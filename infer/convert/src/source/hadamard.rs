//! An orthogonal matrix that spreads what is in one place over all, and costs about n log n: Hadamard's.
//!
//! In and out: vectors [n]. With n = m · 2^k, m odd, it is `R = (T_m ⊗ H) D`: H is Hadamard's matrix of 2^k (Sylvester's
//! order), T_m Hartley's of m (`cos + sin` of 2π i j / m), which has such entries for every m, D signs. H and T are their
//! own inverses, so without signs `R = Rᵀ = R⁻¹`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// `R`, for vectors of one length.
pub(super) struct Orthogonal {
    /// 2^k.
    power: usize,
    /// T_m [m, m], over √n: the scale of H is in it.
    hartley: Vec<f64>,
    /// D [n].
    signs: Vec<f64>,
}

impl Orthogonal {
    /// Without signs, for vectors of `n` > 0.
    pub(super) fn symmetric(n: usize) -> Self {
        let power = 1 << n.trailing_zeros();
        let m = n / power;
        let entry = |i: usize| {
            let turn = std::f64::consts::TAU * ((i / m * (i % m)) % m) as f64 / m as f64;
            (turn.cos() + turn.sin()) / (n as f64).sqrt()
        };
        Self {
            power,
            hartley: (0..m * m).map(entry).collect(),
            signs: vec![1.0; n],
        }
    }

    /// With signs that look random and are the same for every vector of this length.
    pub(super) fn with_signs(n: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(n as u64);
        let mut sign = || if rng.next_u32() >> 31 == 0 { 1.0 } else { -1.0 };
        Self {
            signs: (0..n).map(|_| sign()).collect(),
            ..Self::symmetric(n)
        }
    }

    /// The length of the vectors.
    pub(super) fn len(&self) -> usize {
        self.signs.len()
    }

    /// `R x` in place of `x` [n].
    pub(super) fn apply(&self, x: &mut [f32]) {
        let mut parts: Vec<f64> = (x.iter().zip(&self.signs))
            .map(|(x, sign)| f64::from(*x) * sign)
            .collect();
        for part in parts.chunks_exact_mut(self.power) {
            hadamard(part);
        }
        let m = parts.len() / self.power;
        for (x, row) in x
            .chunks_exact_mut(self.power)
            .zip(self.hartley.chunks_exact(m))
        {
            for (i, x) in x.iter_mut().enumerate() {
                let column = parts[i..].iter().step_by(self.power);
                *x = row
                    .iter()
                    .zip(column)
                    .map(|(t, part)| t * part)
                    .sum::<f64>() as f32;
            }
        }
    }
}

/// `√n H x` in place of `x`, whose length n is a power of two.
fn hadamard(x: &mut [f64]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_and_angles_stay_and_one_place_goes_to_all(
            n in prop::sample::select(vec![1usize, 2, 7, 16, 64, 80, 96, 128, 576, 896]),
            at in 0usize..1000,
            seed in 0u64..1000,
        ) {
            for rotation in [Orthogonal::symmetric(n), Orthogonal::with_signs(n)] {
                let mut rng = ChaCha12Rng::seed_from_u64(seed);
                let mut vector = || -> Vec<f32> {
                    (0..n).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
                };
                let (mut a, mut b) = (vector(), vector());
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let before = [dot(&a, &a), dot(&a, &b)];
                rotation.apply(&mut a);
                rotation.apply(&mut b);
                for (after, before) in [dot(&a, &a), dot(&a, &b)].into_iter().zip(before) {
                    prop_assert!((after - before).abs() < 1e-5 * (n as f32).sqrt(), "{} for {}", after, before);
                }
                let mut one = vec![0.0; n];
                one[at % n] = 1.0;
                rotation.apply(&mut one);
                let most = one.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                prop_assert!(most * (n as f32).sqrt() < 1.42);
            }
        }

        #[test]
        fn without_signs_it_undoes_itself(n in 1usize..200) {
            let rotation = Orthogonal::symmetric(n);
            let mut x: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
            let before = x.clone();
            rotation.apply(&mut x);
            rotation.apply(&mut x);
            for (x, before) in x.iter().zip(before) {
                prop_assert!((x - before).abs() < 1e-5);
            }
        }
    }
}
