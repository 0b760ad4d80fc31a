//! Products of f32 matrices (GEMM) by the `gemm` crate, which takes pointers; safe to call, since
//! sizes are checked.
//!
//! In: two matrices with any strides. Out: their product, row-major, in a new array, appended to
//! one, or written or added to one.
#![expect(unsafe_code, reason = "pointers for gemm, and memory that it fills")]

/// A matrix in a slice, read with any strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// `rows` rows of `columns` numbers each, `stride` apart.
    ///
    /// # Panics
    /// `data` is too short.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let last = (rows.max(1) - 1) * stride + columns;
        assert!(rows == 0 || last <= data.len(), "a matrix within its slice");
        Self {
            data,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// A matrix `[rows, columns]` at the start of `data`.
    ///
    /// # Panics
    /// `data` is too short.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Its transpose.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// The threads that compute a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread alone.
    One,
    /// All of rayon's.
    All,
}

/// `a b`, `[a.rows, b.columns]`. The order of additions within an element does not depend on
/// the number of threads.
///
/// # Panics
/// Inner sizes that differ.
pub(crate) fn product(a: View<'_>, b: View<'_>, threads: Threads) -> Vec<f32> {
    let mut out = Vec::new();
    append_product(&mut out, a, b, threads);
    out
}

/// Appends `a b` to `out`, as [`product`].
///
/// # Panics
/// Inner sizes that differ.
pub(crate) fn append_product(out: &mut Vec<f32>, a: View<'_>, b: View<'_>, threads: Threads) {
    let (before, size) = (out.len(), a.rows * b.columns);
    if a.columns == 0 {
        out.resize(before + size, 0.0);
        return;
    }
    out.reserve_exact(size);
    // SAFETY: the room is there, and a product that adds to nothing writes every element.
    unsafe {
        multiply(out.as_mut_ptr().add(before), a, b, false, threads);
        out.set_len(before + size);
    }
}

/// `out = a b`, or `out += a b` where `add`; `out` `[a.rows, b.columns]`, as [`product`].
///
/// # Panics
/// Sizes that do not fit each other.
pub(crate) fn product_into(out: &mut [f32], a: View<'_>, b: View<'_>, add: bool, threads: Threads) {
    assert!(out.len() >= a.rows * b.columns, "room for a product");
    // SAFETY: there is room, and `out`, borrowed mutably, overlaps neither view.
    unsafe { multiply(out.as_mut_ptr(), a, b, add, threads) }
}

/// # Safety
/// `out` has room for `a.rows · b.columns` numbers, which are initialised if `add`, and
/// overlaps neither view.
unsafe fn multiply(out: *mut f32, a: View<'_>, b: View<'_>, add: bool, threads: Threads) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes of a product");
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: both views lie within their slices (checked when they were made, and the
    // transpose covers the same elements); the caller answers for `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matmul_of_any_strides_equals_its_definition() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..20).map(|i| (i % 7) as f32).collect();
        // a as [3, 4]; b as [5, 4] with only the first 3 columns used, transposed.
        let expected =
            |i: usize, j: usize| -> f32 { (0..3).map(|x| a[i * 4 + x] * b[j * 4 + x]).sum() };
        let mut out = vec![1.0; 15];
        let (a, b) = (View::strided(&a, 3, 3, 4), View::strided(&b, 5, 3, 4));
        product_into(&mut out, a, b.t(), true, Threads::One);
        let fresh = product(a, b.t(), Threads::All);
        let mut appended = vec![7.0];
        append_product(&mut appended, a, b.t(), Threads::One);
        assert_eq!((appended[0], &appended[1..]), (7.0, &fresh[..]));
        assert!(out.iter().zip(&fresh).all(|(a, b)| *a == b + 1.0));
        for i in 0..3 {
            for j in 0..5 {
                assert_eq!(out[i * 5 + j], 1.0 + expected(i, j));
            }
        }
    }

    #[test]
    #[should_panic(expected = "a matrix within its slice")]
    fn matrix_view_past_its_slice_panics() {
        View::new(&[0.0; 5], 2, 3);
    }
}
