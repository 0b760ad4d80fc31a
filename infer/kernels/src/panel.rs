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

use crate::activation_tiles::TokenTile;
use retort_format::Result;
use retort_format::quant::rows16::ROWS;
use retort_format::quant::{GgmlType, unpack_row};

/// Four columns of sixteen rows.
pub(crate) type Unit = [[i8; 4]; ROWS];

/// Sixteen rows, or fewer padded with zeros. Buffers are kept between uses.
#[derive(Default)]
pub(crate) struct Panel {
    pub q: Vec<Unit>,
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
    /// Makes room in `q`, `d` and `m` for rows of `cols` weights; returns the number of their groups.
    pub fn resize(&mut self, ty: GgmlType, cols: usize) -> usize {
        let groups = cols / ty.group_size();
        (self.group, self.has_min) = (ty.group_size(), ty.has_min());
        self.q.resize(cols / 4, [[0; 4]; ROWS]);
        self.d.resize(groups, [0.0; ROWS]);
        self.m.resize(groups, [0.0; ROWS]);
        groups
    }

    /// Unpacks up to sixteen consecutive rows of `cols` weights; `interleave` brings their
    /// integers `[16, cols]` into the order of `q`.
    pub fn fill(
        &mut self,
        ty: GgmlType,
        rows: &[u8],
        cols: usize,
        interleave: impl FnOnce(&[i8], &mut [Unit]),
    ) -> Result<()> {
        let groups = self.resize(ty, cols);
        self.rows.resize(ROWS * cols, 0);
        let [d, m] = &mut self.scales;
        d.resize(groups, 0.0);
        m.resize(groups, 0.0);
        let row_bytes = cols / ty.block_size() * ty.bytes_per_block();
        let n = rows.len() / row_bytes;
        let integers = self.rows.chunks_exact_mut(cols);
        for (r, (row, q)) in rows.chunks_exact(row_bytes).zip(integers).enumerate() {
            unpack_row(ty, row, q, d, m)?;
            for (to, from) in [(&mut self.d, &*d), (&mut self.m, &*m)] {
                to.iter_mut().zip(from).for_each(|(to, x)| to[r] = *x);
            }
        }
        if n < ROWS {
            // what an earlier use left in the missing rows: their sums are thrown away, but must not overflow
            self.rows[n * cols..].fill(0);
            self.d.iter_mut().for_each(|d| d[n..].fill(0.0));
            self.m.iter_mut().for_each(|m| m[n..].fill(0.0));
        }
        interleave(&self.rows, &mut self.q);
        Ok(())
    }

    /// Panics unless the tokens are as long as this panel, which makes the tile kernels' loads sound.
    pub fn check(&self, x: &TokenTile) {
        let (groups, cols) = (self.d.len(), self.q.len() * 4);
        assert!(
            (self.group == 16 || self.group == 32)
                && cols > 0
                && x.cols() == Some(cols)
                && groups * self.group == cols
                && self.m.len() == groups,
            "tile sizes"
        );
    }
}
