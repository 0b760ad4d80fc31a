//! Uninitialized buffers, filled by all threads at once, and disjoint columns of one matrix that
//! several threads write. Both are safe to call.
#![expect(
    unsafe_code,
    reason = "fresh memory, and disjoint columns of one slice"
)]

use std::marker::PhantomData;

use rayon::prelude::*;

/// `n` zeros, written by all of rayon's threads: the first touch of fresh memory takes most of the
/// time.
pub(crate) fn zeros(n: usize) -> Vec<f32> {
    /// Numbers that one task writes: 256 KiB.
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

/// Neighbouring columns of a matrix whose other columns other threads may write.
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
    fn zeros_of_every_size_are_zero() {
        for n in [0, 1, 1 << 17, (1 << 18) + 3] {
            let zeros = zeros(n);
            assert!(zeros.len() == n && zeros.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn split_columns_are_written_by_several_threads() {
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
}
