//! Sixteen weight rows unpacked for use against many tokens.
//!
//! Every quantized format becomes `w = d q + m` per group (see [`retort_format::quant`]); the integers of the sixteen rows
//! are interleaved four at a time, so that one vector of 4-byte lanes, multiplied with four activations broadcast to
//! all lanes, adds to sixteen rows' sums at once and no horizontal sums are needed:
//!
//! ```text
//! q [cols / 4][16 rows][4]   i8, or u8 = i8 + 128 where the kernel multiplies unsigned by signed
//! d [cols / group][16 rows]  f32
//! m [cols / group][16 rows]  f32
//! ```

use super::table::{Kernels, UnpackRows16};
use retort_format::Result;
use retort_format::quant::rows16::ROWS;
use retort_format::quant::{GgmlType, unpack_row};

/// Sixteen rows, or fewer padded with zeros. Buffers are kept between uses.
#[derive(Default)]
pub(crate) struct Panel {
    pub q: Vec<[[i8; 4]; ROWS]>,
    pub d: Vec<[f32; ROWS]>,
    pub m: Vec<[f32; ROWS]>,
    /// 16 or 32 weights to a group.
    pub group: usize,
    /// Whether any `m` can differ from zero.
    pub has_min: bool,
    /// The integers of the rows one after another, before they are interleaved.
    rows: Vec<i8>,
    /// One row's scales and minima.
    scales: [Vec<f32>; 2],
}

impl Panel {
    /// Unpacks up to sixteen consecutive rows of `row_bytes` bytes each, for these kernels.
    pub fn fill(
        &mut self,
        kernels: &Kernels,
        ty: GgmlType,
        rows: &[u8],
        row_bytes: usize,
        cols: usize,
    ) -> Result<()> {
        let groups = cols / ty.group_size();
        (self.group, self.has_min) = (ty.group_size(), ty.has_min());
        self.q.resize(cols / 4, [[0; 4]; ROWS]);
        self.d.resize(groups, [0.0; ROWS]);
        self.m.resize(groups, [0.0; ROWS]);
        self.rows.resize(ROWS * cols, 0);
        let n = rows.len() / row_bytes;
        let [d, m] = &mut self.scales;
        d.resize(groups, 0.0);
        m.resize(groups, 0.0);
        for (r, (row, q)) in rows
            .chunks_exact(row_bytes)
            .zip(self.rows.chunks_exact_mut(cols))
            .enumerate()
        {
            unpack_row(ty, row, q, d, m)?;
            self.d
                .iter_mut()
                .zip(d.iter())
                .for_each(|(to, d)| to[r] = *d);
            self.m
                .iter_mut()
                .zip(m.iter())
                .for_each(|(to, m)| to[r] = *m);
        }
        if n < ROWS {
            // what an earlier use left in the missing rows: their sums are thrown away, but must not overflow
            self.rows[n * cols..].fill(0);
            self.d.iter_mut().for_each(|d| d[n..].fill(0.0));
            self.m.iter_mut().for_each(|m| m[n..].fill(0.0));
        }
        // SAFETY: the table's features were detected; there are sixteen rows of `cols` integers.
        unsafe { (kernels.interleave)(&self.rows, kernels.bias, &mut self.q) };
        Ok(())
    }

    /// Unpacks sixteen rows that lie in a panel of rows16, whole blocks of `cols` columns.
    pub fn fill_rows16(&mut self, unpack: UnpackRows16, ty: GgmlType, panel: &[u8], cols: usize) {
        let groups = cols / ty.group_size();
        (self.group, self.has_min) = (ty.group_size(), ty.has_min());
        self.q.resize(cols / 4, [[0; 4]; ROWS]);
        self.d.resize(groups, [0.0; ROWS]);
        self.m.resize(groups, [0.0; ROWS]);
        // SAFETY: the table's features were detected; the function keeps to its slices.
        unsafe { unpack(panel, &mut self.q, &mut self.d, &mut self.m) };
    }
}
