//! Second moments taken apart so that rounding can pass its errors on.
//!
//! In: H [n, n], the mean of `x xᵀ` over calibration tokens; out: with damping, `H = U D Uᵀ`, U unit upper triangular.
//! The loss of rows W rounded to Q is then a sum of squares, one per column (LDLQ, arXiv 2307.13304, which equals
//! GPTQ, arXiv 2210.17323, without an inverse):
//!
//! ```text
//! tr (W - Q) H (W - Q)ᵀ = Σ_k D_k Σ_rows (w_k + Σ_{j<k} (w_j - q_j) U[j, k] - q_k)²
//! ```

use retort_format::{Error, Result};
use retort_kernels::dense::add_product;
use retort_kernels::pool::Pool;

/// The share of the diagonal's mean that every input has.
const LEAST: f64 = 1e-3;
/// Columns that are eliminated together.
const PANEL: usize = 64;

/// `H = U D Uᵀ`.
pub(crate) struct Factor {
    /// Columns.
    pub(crate) n: usize,
    /// Uᵀ, [n, n]: row k holds what column k takes of the errors before it.
    pub(crate) feedback: Vec<f32>,
    /// D [n].
    pub(crate) weights: Vec<f32>,
    /// H with damping, [n, n].
    pub(crate) moments: Vec<f32>,
}

impl Factor {
    /// Factors `moments` [n, n] after adding to each number of the diagonal `damping` times itself, which draws the
    /// moments of pairs towards zero (shrinkage: what a few thousand tokens say of n² pairs is half noise), and a
    /// little of the mean, for inputs that are never there.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the moments are no finite numbers.
    pub(crate) fn new(pool: &Pool, mut moments: Vec<f32>, n: usize, damping: f64) -> Result<Self> {
        let mean = (0..n).map(|i| f64::from(moments[i * n + i])).sum::<f64>() / n.max(1) as f64;
        // inputs that are always zero leave nothing to weigh: all weights count alike then
        let added = if mean > 0.0 {
            (LEAST * mean) as f32
        } else {
            1.0
        };
        for i in 0..n {
            let own = moments[i * n + i];
            moments[i * n + i] += damping as f32 * own + added;
        }
        let mut reversed: Vec<f64> = moments.iter().rev().map(|&h| f64::from(h)).collect();
        cholesky(pool, &mut reversed, n)?;
        let at = |i: usize, j: usize| reversed[(n - 1 - i) * n + n - 1 - j];
        let weights = (0..n).map(|k| (at(k, k) * at(k, k)) as f32).collect();
        let mut feedback = vec![0.0; n * n];
        pool.rows(&mut feedback, n, 16, |k, row| {
            let diagonal = at(k, k);
            for (j, v) in row[..k].iter_mut().enumerate() {
                *v = (at(j, k) / diagonal) as f32;
            }
            row[k] = 1.0;
        });
        Ok(Self {
            n,
            feedback,
            weights,
            moments,
        })
    }

    /// `tr (W - Q) H (W - Q)ᵀ` of errors [rows, n].
    #[cfg(test)]
    pub(crate) fn loss(&self, errors: &[f32]) -> f64 {
        let mut sum = 0.0;
        for row in errors.chunks_exact(self.n) {
            for (i, a) in row.iter().enumerate() {
                for (j, b) in row.iter().enumerate() {
                    sum += f64::from(*a) * f64::from(*b) * f64::from(self.moments[i * self.n + j]);
                }
            }
        }
        sum
    }
}

/// The lower triangle L with `L Lᵀ = a`, in place; above the diagonal is what was there.
pub(crate) fn cholesky(pool: &Pool, a: &mut [f64], n: usize) -> Result<()> {
    let mut below = Vec::new();
    for first in (0..n).step_by(PANEL) {
        let last = (first + PANEL).min(n);
        let width = last - first;
        for k in first..last {
            for i in k..last {
                let (top, row) = (&a[k * n + first..k * n + k], &a[i * n + first..i * n + k]);
                let dot: f64 = top.iter().zip(row).map(|(x, y)| x * y).sum();
                let rest = a[i * n + k] - dot;
                if i == k {
                    if !(rest.is_finite() && rest > 0.0) {
                        let problem = "the moments of a layer's inputs are not positive definite; \
                            calibrate on more text, or check the model for damaged weights";
                        return Err(Error::Argument(problem.into()));
                    }
                    a[k * n + k] = rest.sqrt();
                } else {
                    a[i * n + k] = rest / a[k * n + k];
                }
            }
        }
        let (done, rest) = a.split_at_mut(last * n);
        pool.rows(rest, n, 8, |_, row| {
            for k in first..last {
                let top = &done[k * n + first..k * n + k];
                let dot: f64 = top.iter().zip(&row[first..k]).map(|(x, y)| x * y).sum();
                row[k] = (row[k] - dot) / done[k * n + k];
            }
        });
        below.clear();
        for row in rest.chunks_exact(n) {
            below.extend_from_slice(&row[first..last]);
        }
        // what is left of the matrix, row by row up to the diagonal
        let mut parts: Vec<_> = rest.chunks_mut(PANEL * n).collect();
        let below = &below;
        pool.rows(&mut parts, 1, 1, |part, rows| {
            let n_rows = rows[0].len() / n;
            let columns = part * PANEL + n_rows;
            let mut product = vec![0.0; n_rows * columns];
            let left = &below[part * PANEL * width..];
            add_product(
                &Pool::single(),
                1.0,
                (left, width),
                (below, width),
                width,
                (&mut product, columns),
            );
            for (row, product) in rows[0]
                .chunks_exact_mut(n)
                .zip(product.chunks_exact(columns))
            {
                for (a, p) in row[last..last + columns].iter_mut().zip(product) {
                    *a -= p;
                }
            }
        });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use retort_test_kit::Random;

    use super::*;

    /// Moments of correlated inputs.
    pub(crate) fn moments(n: usize, tokens: usize) -> Vec<f32> {
        let mut random = Random::new(7);
        let mut uniform = || random.f32();
        let mut h = vec![0.0; n * n];
        for _ in 0..tokens {
            let shared = uniform();
            let x: Vec<f32> = (0..n)
                .map(|i| shared * (1.0 + (i % 5) as f32) + uniform())
                .collect();
            for i in 0..n {
                for j in 0..n {
                    h[i * n + j] += x[i] * x[j] / tokens as f32;
                }
            }
        }
        h
    }

    #[test]
    fn the_factors_multiply_to_the_moments() {
        for n in [1, 5, 64, 150] {
            let factor =
                Factor::new(&Pool::new(2, &[]).unwrap(), moments(n, 400), n, 0.01).unwrap();
            for i in 0..n {
                for j in 0..n {
                    let sum: f32 = (0..n)
                        .map(|k| {
                            let row = &factor.feedback[k * n..(k + 1) * n];
                            row[i] * factor.weights[k] * row[j]
                        })
                        .sum();
                    let want = factor.moments[i * n + j];
                    assert!(
                        (sum - want).abs() < 1e-3 * (1.0 + want.abs()),
                        "{sum} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn moments_without_numbers_are_refused() {
        let pool = Pool::single();
        assert!(Factor::new(&pool, vec![f32::NAN; 4], 2, 0.01).is_err());
        assert!(Factor::new(&pool, vec![0.0; 4], 2, 0.01).is_ok());
    }
}
