//! Products of dense matrices in f32 and f64, by the `gemm` crate, for what is done once per model: calibration.
//!
//! Each thread computes whole rows of the result on its own, cut alike whatever the number of threads, so that results
//! do not depend on it.

use crate::pool::Pool;

/// Rows of the result that are computed together.
const ROWS: usize = 256;
/// Rows of a symmetric result that are computed together.
const SQUARE: usize = 128;

/// `out [m, n] += sign · a [m, k] · bᵀ`, `b` being `[n, k]`; rows may lie apart by more than their length.
///
/// # Panics
///
/// If a slice is shorter than its sizes say.
pub fn add_product<T: Number>(
    pool: &Pool,
    sign: T,
    (a, a_stride): (&[T], usize),
    (b, b_stride): (&[T], usize),
    k: usize,
    (out, n): (&mut [T], usize),
) {
    let m = out.len() / n.max(1);
    if m == 0 || k == 0 {
        return;
    }
    assert!(a.len() >= (m - 1) * a_stride + k && b.len() >= (n - 1) * b_stride + k);
    let mut parts: Vec<_> = out.chunks_mut(ROWS * n).collect();
    pool.rows(&mut parts, 1, 1, |part, out| {
        let rows = out[0].len() / n;
        let a = &a[part * ROWS * a_stride..];
        // SAFETY: a's rows part · ROWS .. + rows, b's n rows and out's are in range by the assertion and the cut.
        unsafe {
            multiply(
                [rows, n, k],
                sign,
                (a.as_ptr(), a_stride as isize, 1),
                (b.as_ptr(), 1, b_stride as isize),
                (out[0].as_mut_ptr(), n as isize),
            );
        }
    });
}

/// `out [i, j] += Σ_t x[t, i] x[t, j]` of `x [tokens, n]` for `j <= i`; what lies above the diagonal is left undefined until
/// [`mirror`] has copied it.
///
/// # Panics
///
/// If the sizes do not fit each other.
pub fn add_squares(pool: &Pool, x: &[f32], n: usize, out: &mut [f32]) {
    let tokens = x.len() / n;
    assert_eq!((x.len(), out.len()), (tokens * n, n * n));
    let mut parts: Vec<_> = out.chunks_mut(SQUARE * n).collect();
    let last = parts.len() - 1;
    // the longest first, so that no thread is left with it
    parts.reverse();
    pool.rows(&mut parts, 1, 1, |part, out| {
        let rows = out[0].len() / n;
        let first = (last - part) * SQUARE;
        // SAFETY: columns first .. first + rows and 0 .. first + rows of every token of x are in range, and so are as
        // many columns of out's rows.
        unsafe {
            multiply(
                [rows, first + rows, tokens],
                1.0,
                (x[first..].as_ptr(), 1, n as isize),
                (x.as_ptr(), n as isize, 1),
                (out[0].as_mut_ptr(), n as isize),
            );
        }
    });
}

/// Copies what lies below the diagonal of `a [n, n]` above it.
pub fn mirror(a: &mut [f32], n: usize) {
    for i in 0..n {
        for j in 0..i {
            a[j * n + i] = a[i * n + j];
        }
    }
}

/// An element of a dense matrix: f32 or f64.
pub trait Number: Copy + Send + Sync + 'static {
    /// One.
    const ONE: Self;
}

impl Number for f32 {
    const ONE: f32 = 1.0;
}

impl Number for f64 {
    const ONE: f64 = 1.0;
}

/// `out += sign · a · b`; strides are of rows and of columns, out's columns lie side by side.
///
/// # Safety
/// All `m · k`, `k · n` and `m · n` elements are in range, and nobody else uses out's.
unsafe fn multiply<T: Number>(
    [m, n, k]: [usize; 3],
    sign: T,
    (a, a_rows, a_columns): (*const T, isize, isize),
    (b, b_rows, b_columns): (*const T, isize, isize),
    (out, out_rows): (*mut T, isize),
) {
    // SAFETY: by the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            out_rows,
            true,
            a,
            a_columns,
            a_rows,
            b,
            b_columns,
            b_rows,
            T::ONE,
            sign,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_of_products() {
        let pool = Pool::new(2, &[]).unwrap();
        let (m, n, k) = (300, 9, 13);
        let a: Vec<f64> = (0..m * 20).map(|i| (i % 17) as f64 - 8.0).collect();
        let b: Vec<f64> = (0..n * k).map(|i| (i % 11) as f64 - 5.0).collect();
        let mut out = vec![1.0; m * n];
        add_product(&pool, -1.0, (&a, 20), (&b, k), k, (&mut out, n));
        for i in 0..m {
            for j in 0..n {
                let dot: f64 = (0..k).map(|c| a[i * 20 + c] * b[j * k + c]).sum();
                assert_eq!(out[i * n + j], 1.0 - dot);
            }
        }
    }

    #[test]
    fn squares_are_sums_over_tokens() {
        let pool = Pool::new(2, &[]).unwrap();
        for n in [1, 128, 300] {
            let x: Vec<f32> = (0..7 * n).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut out = vec![2.0; n * n];
            add_squares(&pool, &x, n, &mut out);
            mirror(&mut out, n);
            for (at, out) in out.iter().enumerate() {
                let tokens = x.chunks_exact(n);
                let sum: f32 = tokens.map(|x| x[at / n] * x[at % n]).sum();
                assert_eq!(*out, 2.0 + sum);
            }
        }
    }
}
