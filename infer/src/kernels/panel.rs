//! Sixteen weight rows unpacked for use against many tokens.
//!
//! Every quantized format becomes `w = d q + m` per group (see [`crate::quant`]); the integers of the sixteen rows
//! are interleaved four at a time, so that one vector of 4-byte lanes, multiplied with four activations broadcast to
//! all lanes, adds to sixteen rows' sums at once and no horizontal sums are needed:
//!
//! ```text
//! q [cols / 4][16 rows][4]   i8, or u8 = i8 + 128 where the kernel multiplies unsigned by signed
//! d [cols / group][16 rows]  f32
//! m [cols / group][16 rows]  f32
//! ```

use crate::Result;
use crate::quant::{GgmlType, unpack_row};

/// Rows in a panel.
pub(crate) const ROWS: usize = 16;

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
    row: Unpacked,
}

/// One row in the form `w = d q + m`.
#[derive(Default)]
pub(crate) struct Unpacked {
    pub q: Vec<i8>,
    pub d: Vec<f32>,
    pub m: Vec<f32>,
}

impl Unpacked {
    /// Unpacks a row of `cols` weights.
    pub fn fill(&mut self, ty: GgmlType, row: &[u8], cols: usize) -> Result<()> {
        let groups = cols / ty.group_size().max(1);
        self.q.resize(cols, 0);
        self.d.resize(groups, 0.0);
        self.m.resize(groups, 0.0);
        unpack_row(ty, row, &mut self.q, &mut self.d, &mut self.m)
    }
}

impl Panel {
    /// Unpacks up to sixteen consecutive rows of `row_bytes` bytes each. `bias` is added to the integers, wrapping.
    pub fn fill(
        &mut self,
        ty: GgmlType,
        rows: &[u8],
        row_bytes: usize,
        cols: usize,
        bias: i8,
    ) -> Result<()> {
        let groups = cols / ty.group_size();
        (self.group, self.has_min) = (ty.group_size(), ty.has_min());
        self.q.resize(cols / 4, [[0; 4]; ROWS]);
        self.d.resize(groups, [0.0; ROWS]);
        self.m.resize(groups, [0.0; ROWS]);
        let n = rows.len() / row_bytes;
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            self.row.fill(ty, row, cols)?;
            for (to, from) in self.q.iter_mut().zip(self.row.q.as_chunks::<4>().0) {
                to[r] = from.map(|q| q.wrapping_add(bias));
            }
            for ((d, m), (from_d, from_m)) in self
                .d
                .iter_mut()
                .zip(&mut self.m)
                .zip(self.row.d.iter().zip(&self.row.m))
            {
                (d[r], m[r]) = (*from_d, *from_m);
            }
        }
        if n < ROWS {
            // rows left from an earlier use; their sums are thrown away, but must not overflow or be NaN-slow
            self.q.iter_mut().for_each(|q| q[n..].fill([0; 4]));
            self.d.iter_mut().for_each(|d| d[n..].fill(0.0));
            self.m.iter_mut().for_each(|m| m[n..].fill(0.0));
        }
        Ok(())
    }
}
