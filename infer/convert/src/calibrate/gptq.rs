//! Rounding that passes its errors on: rows of weights to Q4_0 or Q4_1 blocks with the least error in what they are
//! multiplied with, not in themselves.
//!
//! In: rows [rows, n] and the [`Factor`] of their inputs' moments; out: blocks, and the rows as the engine decodes
//! them. Columns are rounded from the first to the last; each takes on what those before it did wrong, as far as it can
//! make up for it. A block's scale is chosen when its first column is reached: every candidate of the search of
//! [`retort_format::quant::search`] is rounded through the block, errors passed on, and the one with the least loss stays.
//! Then integers and scales are changed one at a time as long as the loss falls ([`super::coordinate_descent`]).

use super::coordinate_descent::{self, Row};
use super::ldl::Factor;
use super::weights::Encoded;
use super::weights::GroupWeights;
use retort_format::quant::round::{BLOCK, inverse};
use retort_format::quant::search;
use retort_format::{Error, GgmlType, Result, quant};
use retort_kernels::dense::add_product;
use retort_kernels::pool::Pool;

/// Rows that share a pass over the factor.
const ROWS: usize = 64;

/// Rounds `rows` [rows, n], on all threads, to blocks of `ty`; `rows` become what the blocks decode to.
///
/// # Errors
///
/// [`Error::Argument`] for a type that is not written.
pub(crate) fn round(
    pool: &Pool,
    ty: GgmlType,
    factor: &Factor,
    rows: &mut [f32],
    passes: usize,
) -> Result<Vec<u8>> {
    let n = factor.n;
    let feeds_back = matches!(ty, GgmlType::Q4_0 | GgmlType::Q4_1);
    let importance: Vec<f32> = (0..n).map(|i| factor.moments[i * n + i]).collect();
    let parts = rows.chunks_mut(ROWS * n);
    let mut parts: Vec<_> = parts.map(|rows| (rows, Ok(Vec::new()))).collect();
    pool.rows(&mut parts, 1, 1, |_, part| {
        let (rows, encoded) = &mut part[0];
        *encoded = if feeds_back {
            Ok(round_rows(ty, factor, rows, passes))
        } else {
            round_alone(ty, &importance, rows)
        };
    });
    let mut out = Vec::new();
    for (_, encoded) in parts {
        out.extend(encoded?);
    }
    Ok(out)
}

/// A group of types without scales: nothing to choose.
pub(super) fn round_plainly(
    group: &mut GroupWeights,
    ty: &impl Fn(&str) -> GgmlType,
) -> Result<Vec<Encoded>> {
    let mut out = Vec::new();
    let mut rest = group.weights.as_mut_slice();
    for (name, rows) in &group.tensors {
        let part;
        (part, rest) = rest.split_at_mut(rows * group.columns);
        let encoded = round_alone(ty(name), &vec![1.0; group.columns], part)?;
        out.push((name.clone(), encoded));
    }
    Ok(out)
}

/// Each weight by itself, weighed by how large its input is.
fn round_alone(ty: GgmlType, importance: &[f32], rows: &mut [f32]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for row in rows.chunks_exact_mut(importance.len()) {
        if !quant::fits(ty, row) {
            let problem = "the model holds weights that F16 cannot; choose another type for them";
            return Err(Error::Argument(problem.into()));
        }
        let start = out.len();
        search::quantize_row_searched(ty, row, Some(importance), &mut out)?;
        quant::dequantize_row(ty, &out[start..], row)?;
    }
    Ok(out)
}

/// A chunk of rows, errors passed on.
fn round_rows(ty: GgmlType, factor: &Factor, rows: &mut [f32], passes: usize) -> Vec<u8> {
    let n = factor.n;
    let n_rows = rows.len() / n;
    let blocks = n / BLOCK;
    let mut errors = vec![0.0; n_rows * n];
    let mut rounded: Vec<_> = (0..n_rows).map(|_| Row::new(ty, blocks)).collect();
    let mut targets = vec![0.0; n_rows * BLOCK];
    for block in 0..blocks {
        let first = block * BLOCK;
        for (target, row) in targets.chunks_exact_mut(BLOCK).zip(rows.chunks_exact(n)) {
            target.copy_from_slice(&row[first..first + BLOCK]);
        }
        add_product(
            &Pool::single(),
            1.0,
            (&errors, n),
            (&factor.feedback[first * n..], n),
            first,
            (&mut targets, BLOCK),
        );
        let inside = Inside::new(factor, first);
        for (r, row) in rounded.iter_mut().enumerate() {
            let at = r * n + first..r * n + first + BLOCK;
            let (Some(weights), Some(targets)) = (
                rows[at.clone()].first_chunk(),
                targets[r * BLOCK..].first_chunk(),
            ) else {
                continue;
            };
            let (d, m, q) = inside.choose(ty, weights, targets);
            row.set(block, d, m, &q);
            for (i, error) in errors[at].iter_mut().enumerate() {
                *error = weights[i] - (d * q[i] + m);
            }
        }
    }
    if passes > 0 {
        coordinate_descent::refine(ty, factor, &mut errors, &mut rounded, passes);
    }
    let mut out = Vec::new();
    for (row, (rounded, errors)) in rows
        .chunks_exact_mut(n)
        .zip(rounded.iter().zip(errors.chunks_exact(n)))
    {
        for (w, error) in row.iter_mut().zip(errors) {
            *w -= error;
        }
        rounded.encode(ty, &mut out);
        rounded.decode(row);
    }
    out
}

/// A block's own part of the factor.
struct Inside {
    /// Row k: what column k's error adds to the columns after it, [32, 32].
    passed_on: [[f32; BLOCK]; BLOCK],
    weights: [f32; BLOCK],
}

impl Inside {
    fn new(factor: &Factor, first: usize) -> Self {
        let n = factor.n;
        let mut passed_on = [[0.0; BLOCK]; BLOCK];
        for (k, row) in passed_on.iter_mut().enumerate() {
            for (i, passed) in row.iter_mut().enumerate().skip(k + 1) {
                *passed = factor.feedback[(first + i) * n + first + k];
            }
        }
        Self {
            passed_on,
            weights: std::array::from_fn(|i| factor.weights[first + i]),
        }
    }

    /// The scale, minimum and integers of a block with the least loss.
    fn choose(
        &self,
        ty: GgmlType,
        w: &[f32; BLOCK],
        targets: &[f32; BLOCK],
    ) -> (f32, f32, [f32; BLOCK]) {
        let mut best = (f32::INFINITY, 0.0, 0.0, [0.0; BLOCK]);
        for (d, m) in search::candidates(ty, targets, &self.weights) {
            if let Some((loss, q)) = self.try_scale(ty, w, targets, d, m, best.0) {
                best = (loss, d, m, q);
            }
        }
        (best.1, best.2, best.3)
    }

    /// Rounds through the block under one scale; none if the loss reaches `limit`.
    fn try_scale(
        &self,
        ty: GgmlType,
        w: &[f32; BLOCK],
        targets: &[f32; BLOCK],
        d: f32,
        m: f32,
        limit: f32,
    ) -> Option<(f32, [f32; BLOCK])> {
        let (low, high) = search::range(ty);
        let inverse = inverse(d);
        let (mut targets, mut q, mut loss) = (*targets, [0.0; BLOCK], 0.0);
        for k in 0..BLOCK {
            q[k] = search::nearest((targets[k] - m) * inverse, low, high);
            let decoded = d * q[k] + m;
            let short = targets[k] - decoded;
            loss += self.weights[k] * short * short;
            let error = w[k] - decoded;
            for (target, passed) in targets.iter_mut().zip(&self.passed_on[k]) {
                *target += error * passed;
            }
            if k % 8 == 7 && loss >= limit {
                return None;
            }
        }
        Some((loss, q))
    }
}

#[cfg(test)]
mod tests {
    use retort_test_kit::Random;

    use super::super::ldl::tests::moments;
    use super::*;

    fn rows(n: usize, n_rows: usize) -> Vec<f32> {
        Random::new(3).f32s(n * n_rows)
    }

    fn loss(ty: GgmlType, factor: &Factor, rows: &[f32], bytes: &[u8]) -> f64 {
        let mut decoded = vec![0.0; rows.len()];
        quant::dequantize_row(ty, bytes, &mut decoded).unwrap();
        let errors: Vec<f32> = rows.iter().zip(&decoded).map(|(w, q)| w - q).collect();
        factor.loss(&errors)
    }

    #[test]
    fn passing_errors_on_loses_less_and_descent_less_still() {
        let (n, n_rows, pool) = (96, 70, Pool::new(2, &[]).unwrap());
        let factor = Factor::new(&pool, moments(n, 300), n, 0.01).unwrap();
        let rows = rows(n, n_rows);
        for ty in [GgmlType::Q4_0, GgmlType::Q4_1] {
            let mut plain = Vec::new();
            quant::quantize_row(ty, &rows, &mut plain).unwrap();
            let mut losses = vec![loss(ty, &factor, &rows, &plain)];
            for passes in [0, 4] {
                let mut decoded = rows.clone();
                let out = round(&pool, ty, &factor, &mut decoded, passes).unwrap();
                let mut again = vec![0.0; rows.len()];
                quant::dequantize_row(ty, &out, &mut again).unwrap();
                assert_eq!(decoded, again);
                losses.push(loss(ty, &factor, &rows, &out));
            }
            assert!(losses[1] < 0.7 * losses[0], "{ty}: {losses:?}");
            assert!(losses[2] < losses[1], "{ty}: {losses:?}");
        }
    }

    /// GPTQ as its paper writes it: the inverse of H is eliminated column by column, the scale given.
    #[test]
    fn feedback_is_that_of_gptq() {
        let (n, pool) = (64, Pool::single());
        let factor = Factor::new(&pool, moments(n, 300), n, 0.01).unwrap();
        let row = rows(n, 1);
        let inside = Inside::new(&factor, 0);
        let w: [f32; BLOCK] = std::array::from_fn(|i| row[i]);
        let (_, q) = inside
            .try_scale(GgmlType::Q4_0, &w, &w, 0.125, 0.0, f32::INFINITY)
            .unwrap();
        let mut inverse = invert(&factor.moments, n);
        let mut left: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
        for k in 0..BLOCK {
            let naive = (left[k] / 0.125).round_ties_even().clamp(-8.0, 7.0);
            assert_eq!(f64::from(q[k]), naive, "column {k}");
            let error = (left[k] - naive * 0.125) / inverse[k * n + k];
            for j in k..n {
                left[j] -= error * inverse[k * n + j];
            }
            let pivot = inverse[k * n + k];
            let top: Vec<f64> = inverse[k * n..(k + 1) * n].to_vec();
            for i in k..n {
                for j in k..n {
                    inverse[i * n + j] -= top[i] * top[j] / pivot;
                }
            }
        }
    }

    fn invert(h: &[f32], n: usize) -> Vec<f64> {
        let mut a: Vec<f64> = h.iter().map(|&h| f64::from(h)).collect();
        let mut b = vec![0.0; n * n];
        (0..n).for_each(|i| b[i * n + i] = 1.0);
        for k in 0..n {
            let pivot = a[k * n + k];
            for j in 0..n {
                a[k * n + j] /= pivot;
                b[k * n + j] /= pivot;
            }
            for i in (0..n).filter(|&i| i != k) {
                let factor = a[i * n + k];
                for j in 0..n {
                    a[i * n + j] -= factor * a[k * n + j];
                    b[i * n + j] -= factor * b[k * n + j];
                }
            }
        }
        b
    }
}
