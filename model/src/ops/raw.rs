//! The places where the operations need `unsafe`: products of matrices, which the `gemm`
//! crate takes as pointers; memory that is written before it is read, without being zeroed
//! first; and writing to columns of one matrix from several threads. All are safe to call:
//! sizes are checked, and columns do not overlap.
#![expect(
    unsafe_code,
    reason = "pointers for gemm, fresh memory, and disjoint columns of one slice"
)]

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

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

    /// How many columns it has.
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

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread alone.
    One,
    /// All of rayon's.
    All,
}

/// `n` zeros, written by all of rayon's threads: the first touch of fresh memory is most of the time.
pub(crate) fn zeros(n: usize) -> Vec<f32> {
    /// What one task writes: 256 KiB.
    const PART: usize = 1 << 16;
    if n < 2 * PART {
        return vec![0.0; n];
    }
    let mut out = Vec::with_capacity(n);
    let room = &mut out.spare_capacity_mut()[..n];
    room.par_chunks_mut(PART).for_each(|part| {
        for x in part {
            x.write(0.0);
        }
    });
    // SAFETY: all `n` were written.
    unsafe { out.set_len(n) };
    out
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

/// Multiply-adds that are worth a task of their own: about a third of a millisecond.
const TASK: usize = 1 << 25;

/// How a product `[m, n]` over `k` is divided into tasks: rows and columns of one. It depends on the sizes alone, so
/// that a result does not depend on the number of threads.
fn task_size(m: usize, n: usize, k: usize) -> (usize, usize) {
    // What is not divided is packed by every task anew: the shorter side. Whole tiles of the `gemm` crate.
    let count = (m.saturating_mul(n).saturating_mul(k) / TASK).max(1);
    match m >= n {
        true => (m.div_ceil(count).next_multiple_of(48).min(m), n),
        false => (m, n.div_ceil(count).next_multiple_of(64).min(n)),
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Out {
    first: *mut f32,
    stride: usize,
}

// SAFETY: its tasks write to different elements.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// # Safety
/// `out` has room for `a.rows · b.columns` numbers, which are initialised if `add`, and
/// overlaps neither view.
unsafe fn multiply(out: *mut f32, a: View<'_>, b: View<'_>, add: bool, threads: Threads) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes of a product");
    let out = Out {
        first: out,
        stride: n,
    };
    let (rows, columns) = match threads {
        Threads::One => (m, n),
        Threads::All => task_size(m, n, k),
    };
    if rows == m && columns == n {
        // SAFETY: the caller's promise.
        return unsafe { block(out, a, b, [0..m, 0..n], add) };
    }
    let across = n.div_ceil(columns);
    let tasks = m.div_ceil(rows) * across;
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let (i, j) = (task / across * rows, task % across * columns);
        // SAFETY: the caller's promise, and no two tasks have an element in common.
        unsafe { block(out, a, b, [i..m.min(i + rows), j..n.min(j + columns)], add) };
    });
}

/// The elements `[rows, columns]` of a product, by the calling thread.
///
/// # Safety
/// That of [`multiply`]; `rows` and `columns` lie within it, and nobody else looks at those elements.
unsafe fn block(out: Out, a: View<'_>, b: View<'_>, [rows, columns]: [Range<usize>; 2], add: bool) {
    // SAFETY: both views lie within their slices (checked when they were made, and the
    // transpose covers the same elements), so do the rows and columns of them; the caller answers for `out`.
    unsafe {
        gemm::gemm(
            rows.len(),
            columns.len(),
            a.columns,
            out.first.add(rows.start * out.stride + columns.start),
            1,
            out.stride as isize,
            add,
            a.data.as_ptr().add(rows.start * a.row_stride),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr().add(columns.start * b.column_stride),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Some neighbouring columns of a matrix whose other columns others may be writing.
pub(crate) struct Columns<'a> {
    first: *mut f32,
    rows: usize,
    width: usize,
    stride: usize,
    whole: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is the only access to its columns for 'a, like the `&mut [f32]` it came from.
unsafe impl Send for Columns<'_> {}

impl Columns<'_> {
    /// Its part of row `row`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "a row of the matrix");
        // SAFETY: row < rows, so the part lies within the slice that `split` was given;
        // no other `Columns` covers it, and this one is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.width) }
    }
}

/// Cuts `data` `[rows, stride]` into `count` groups of columns of equal width.
///
/// # Panics
/// `data` is no such matrix, or the columns cannot be divided so.
pub(crate) fn split(
    data: &mut [f32],
    rows: usize,
    count: usize,
) -> impl Iterator<Item = Columns<'_>> {
    let stride = data.len() / rows.max(1);
    assert_eq!(data.len(), rows * stride, "whole rows");
    assert!(count > 0 && stride.is_multiple_of(count), "equal columns");
    let (first, width) = (data.as_mut_ptr(), stride / count);
    (0..count).map(move |i| Columns {
        // SAFETY: i · width < stride, which is within the slice unless it is empty, and
        // then no row can be asked for.
        first: unsafe { first.add(if rows == 0 { 0 } else { i * width }) },
        rows,
        width,
        stride,
        whole: PhantomData,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_any_strides() {
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

    /// In pieces, with what is left over on either side, and with any number of threads.
    #[test]
    fn divided_products_are_whole() {
        for (m, n, k) in [
            (700, 130, 800),
            (130, 700, 800),
            (40, 3_000, 600),
            (0, 5, 7),
        ] {
            assert_ne!(task_size(m, n, k) == (m, n), m > 0, "to be divided");
            let fill = |n: usize, by: usize| -> Vec<f32> {
                (0..n).map(|i| ((i * by) % 7) as f32).collect()
            };
            let (a, b) = (fill(m * k, 3), fill(n * k, 5));
            let (a, b) = (View::new(&a, m, k), View::new(&b, n, k).t());
            let whole = product(a, b, Threads::One);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut twice = pool.install(|| product(a, b, Threads::All));
                // Whole numbers this small are exact in any order.
                assert!(twice == whole, "{m} {n} {k}");
                pool.install(|| product_into(&mut twice, a, b, true, Threads::All));
                assert!(twice.iter().zip(&whole).all(|(t, w)| *t == 2.0 * w));
            }
        }
    }

    #[test]
    fn zeros_of_every_size() {
        for n in [0, 1, 1 << 17, (1 << 18) + 3] {
            let zeros = zeros(n);
            assert!(zeros.len() == n && zeros.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn columns_are_written_apart() {
        let mut data = vec![0f32; 12];
        std::thread::scope(|scope| {
            for (i, mut columns) in split(&mut data, 3, 2).enumerate() {
                scope.spawn(move || {
                    for row in 0..3 {
                        columns.row(row).fill((10 * i + row) as f32);
                    }
                });
            }
        });
        assert_eq!(data, [0., 0., 10., 10., 1., 1., 11., 11., 2., 2., 12., 12.]);
    }

    #[test]
    #[should_panic(expected = "a matrix within its slice")]
    fn a_view_past_its_slice_is_refused() {
        View::new(&[0.0; 5], 2, 3);
    }
}
