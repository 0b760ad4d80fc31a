//! RMSNorm (Zhang and Sennrich, arXiv 1910.07467): `y = x / √(mean(x²) + ε) · w` over rows
//! `x` `[N, D]` with weights `w` `[D]`, and its gradient.
//!
//! With r = 1 / √(mean(x²) + ε): `dw = Σ dy · x · r` over the rows, and
//! `dx = r · (dy · w − x · r² · mean(dy · w · x))`.

use rayon::prelude::*;

use super::vector::{dot, dot3, simd};

/// Rows that one task does.
const ROWS: usize = 64;

#[inline(always)]
fn inverse(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// Fills `y`, of `x`'s size.
pub(crate) fn forward(x: &[f32], w: &[f32], epsilon: f32, y: &mut [f32]) {
    let d = w.len().max(1);
    let chunks = y.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d));
    chunks.for_each(|(y, x)| {
        simd(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let r = inverse(x, epsilon);
                    for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                        *y = x * r * w;
                    }
                }
            },
        )
    });
}

/// Fills `dx`, of `x`'s size, and answers `dw`. Rows are summed in their order, whatever
/// the number of threads.
pub(crate) fn backward(x: &[f32], w: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32]) -> Vec<f32> {
    let d = w.len().max(1);
    let chunks = dx.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d));
    let parts: Vec<Vec<f32>> = chunks
        .zip(dy.par_chunks(ROWS * d))
        .map(|((dx, x), dy)| {
            let mut dw = vec![0f32; d];
            simd(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(d).zip(dy.chunks_exact(d));
                    for (dx, (x, dy)) in dx.chunks_exact_mut(d).zip(rows) {
                        row_backward(x, w, dy, epsilon, dx, &mut dw);
                    }
                },
            );
            dw
        })
        .collect();
    let mut dw = vec![0f32; w.len()];
    for part in &parts {
        for (total, part) in dw.iter_mut().zip(part) {
            *total += part;
        }
    }
    dw
}

#[inline(always)]
fn row_backward(x: &[f32], w: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32], dw: &mut [f32]) {
    let d = x.len();
    let (w, dy, dx, dw) = (&w[..d], &dy[..d], &mut dx[..d], &mut dw[..d]);
    let r = inverse(x, epsilon);
    let mean = dot3(dy, w, x) / d as f32;
    let back = mean * r * r * r;
    for i in 0..d {
        dx[i] = dy[i] * w[i] * r - x[i] * back;
        dw[i] += dy[i] * x[i] * r;
    }
}
