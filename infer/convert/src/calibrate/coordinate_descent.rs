//! Coordinate descent on rows that are rounded already: one integer, or one block's scale, at a time.
//!
//! In: errors `e = w - decoded` [rows, n] and their integers; out: both changed so that `e H eᵀ` is less. With the
//! gradient `g = e H` at hand, changing a decoded weight k by δ changes the loss by `δ² H_kk - 2 δ g_k`, so the best
//! integer is a division away; a change costs one row of H (as in QuantEase, arXiv 2309.01885). Scales follow in the
//! same way along their block's integers, in steps that f16 can store. Each change lowers the loss, so it ends.

use super::ldl::Factor;
use retort_format::GgmlType;
use retort_format::quant::search;
use retort_format::quant::search::BLOCK;
use retort_kernels::dense::add_product;
use retort_kernels::ops;
use retort_kernels::pool::Pool;

/// Rounds in which scales move too: each costs as much as changing every integer.
const SCALE_PASSES: usize = 2;

/// A row in blocks: `decoded = d q + m`.
pub(super) struct Row {
    q: Vec<[f32; BLOCK]>,
    d: Vec<f32>,
    m: Vec<f32>,
    range: (f32, f32),
}

impl Row {
    pub(super) fn new(ty: GgmlType, blocks: usize) -> Self {
        Self {
            q: vec![[0.0; BLOCK]; blocks],
            d: vec![0.0; blocks],
            m: vec![0.0; blocks],
            range: search::range(ty),
        }
    }

    pub(super) fn set(&mut self, block: usize, d: f32, m: f32, q: &[f32; BLOCK]) {
        (self.d[block], self.m[block], self.q[block]) = (d, m, *q);
    }

    pub(super) fn encode(&self, ty: GgmlType, out: &mut Vec<u8>) {
        for ((q, d), m) in self.q.iter().zip(&self.d).zip(&self.m) {
            out.extend(search::encode(ty, *d, *m, q));
        }
    }

    /// The row as the engine decodes it.
    pub(super) fn decode(&self, out: &mut [f32]) {
        for (i, out) in out.iter_mut().enumerate() {
            let block = i / BLOCK;
            *out = self.d[block] * self.q[block][i % BLOCK] + self.m[block];
        }
    }

    /// Moves every integer to where the loss is least; how many moved.
    fn move_integers(
        &mut self,
        factor: &Factor,
        errors: &mut [f32],
        gradient: &mut [f32],
    ) -> usize {
        let (n, (low, high)) = (factor.n, self.range);
        let mut moved = 0;
        for k in 0..n {
            let (block, i) = (k / BLOCK, k % BLOCK);
            let (d, q) = (self.d[block], self.q[block][i]);
            if d == 0.0 {
                continue;
            }
            let best = gradient[k] / factor.moments[k * n + k];
            let next = search::nearest(q + best / d, low, high);
            // a whole step, and one that is not lost in the rounding of the gradient
            if next == q || (best - d * (next - q) * 0.5) * (next - q) * d <= 1e-4 * d * d {
                continue;
            }
            let change = d * (next - q);
            self.q[block][i] = next;
            errors[k] -= change;
            ops::axpy(-change, &factor.moments[k * n..(k + 1) * n], gradient);
            moved += 1;
        }
        moved
    }

    /// Moves every block's scale to where the loss is least.
    fn move_scales(&mut self, factor: &Factor, errors: &mut [f32], gradient: &mut [f32]) {
        let n = factor.n;
        for (block, q) in self.q.iter().enumerate() {
            let first = block * BLOCK;
            let slope: f32 = (q.iter().zip(&gradient[first..])).map(|(q, g)| q * g).sum();
            let curvature: f32 = (0..BLOCK)
                .map(|i| {
                    let row = &factor.moments[(first + i) * n + first..][..BLOCK];
                    let dot: f32 = row.iter().zip(q).map(|(h, q)| h * q).sum();
                    q[i] * dot
                })
                .sum();
            if curvature <= 0.0 {
                continue;
            }
            let next = search::stored(self.d[block] + slope / curvature);
            let change = next - self.d[block];
            if change == 0.0 || change * (change * curvature - 2.0 * slope) >= 0.0 {
                continue;
            }
            self.d[block] = next;
            for (i, q) in q.iter().enumerate().filter(|(_, q)| **q != 0.0) {
                errors[first + i] -= change * q;
                let row = &factor.moments[(first + i) * n..(first + i + 1) * n];
                ops::axpy(-change * q, row, gradient);
            }
        }
    }
}

/// Up to `passes` rounds over integers and scales of `rows`, whose errors are `errors` [rows, n].
pub(super) fn refine(
    ty: GgmlType,
    factor: &Factor,
    errors: &mut [f32],
    rows: &mut [Row],
    passes: usize,
) {
    debug_assert!(search::is_searched(ty));
    let n = factor.n;
    let mut gradients = vec![0.0; errors.len()];
    add_product(
        &Pool::single(),
        1.0,
        (errors, n),
        (&factor.moments, n),
        n,
        (&mut gradients, n),
    );
    let parts = errors
        .chunks_exact_mut(n)
        .zip(gradients.chunks_exact_mut(n));
    for (row, (errors, gradient)) in rows.iter_mut().zip(parts) {
        for pass in 0..passes {
            if row.move_integers(factor, errors, gradient) == 0 {
                break;
            }
            if pass < SCALE_PASSES {
                row.move_scales(factor, errors, gradient);
            }
        }
    }
}
