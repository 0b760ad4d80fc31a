//! Q4_0, Q4_1 and Q8_0 in panels of sixteen rows: the same bytes as in the file's own layout, in another order.
//!
//! ```text
//! [rows / 16][cols / 32] blocks of 288 (Q4_0), 320 (Q4_1) or 544 (Q8_0) bytes:
//!     16 × f16            the scales of the sixteen rows
//!     16 × f16            Q4_1: their minima
//!     u × 16 rows × 4     unit u of a row: bytes 4u .. 4u + 4 of its weights; four units of nibbles, byte i of which
//!                         holds weight i in the lower four bits and weight i + 16 in the upper four; eight of Q8_0
//! ```
//!
//! A vector of 4-byte lanes then holds as many rows, so products need no horizontal sums, scales are converted
//! sixteen at a time, and nothing has to be unpacked for many tokens. `retort-edge pack` writes such files; how much
//! it gives is in `experiments/results`.

use super::ggml_type::GgmlType;
use crate::error::{Error, Result};

/// Rows in a panel.
pub const ROWS: usize = 16;

/// A format that panels of sixteen rows are made of.
pub trait Format {
    /// Its type in a file.
    const TY: GgmlType;
    /// Bytes of sixteen rows' block.
    const BLOCK: usize = ROWS * Self::TY.bytes_per_block();
    /// Whether sixteen minima follow the scales.
    const MIN: bool = Self::TY.has_min();
    /// Where the weights begin in a block.
    const WEIGHTS: usize = weights_at(Self::TY) * ROWS;
    /// Whether units are nibbles, each byte two weights.
    const NIBBLES: bool = Self::BLOCK - Self::WEIGHTS == 16 * ROWS;
}

/// `w = d (q - 8)`.
pub enum Q4_0 {}
/// `w = d q + m`.
pub enum Q4_1 {}
/// `w = d q`.
pub enum Q8_0 {}

impl Format for Q4_0 {
    const TY: GgmlType = GgmlType::Q4_0;
}

impl Format for Q4_1 {
    const TY: GgmlType = GgmlType::Q4_1;
}

impl Format for Q8_0 {
    const TY: GgmlType = GgmlType::Q8_0;
}

/// Bytes of scale and minimum, which a row's block begins with.
const fn weights_at(ty: GgmlType) -> usize {
    if ty.has_min() { 4 } else { 2 }
}

/// Whether weights of this type can be brought into this layout.
pub fn has_panels(ty: GgmlType) -> bool {
    [Q4_0::TY, Q4_1::TY, Q8_0::TY].contains(&ty)
}

/// Whether a matrix can be brought into this layout.
pub fn fits(ty: GgmlType, rows: usize) -> bool {
    has_panels(ty) && rows > 0 && rows.is_multiple_of(ROWS)
}

/// Reorders sixteen rows of format `ty`, `rows` [16, row_bytes], appending them to `out`.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error) if `ty` has no panels or `rows` is not sixteen rows of whole blocks.
pub fn pack(ty: GgmlType, rows: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let row_block = ty.bytes_per_block();
    let bytes = ROWS * row_block;
    if !has_panels(ty) || rows.is_empty() || !rows.len().is_multiple_of(bytes) {
        let problem = format!("{} bytes of {ty} are not {ROWS} rows", rows.len());
        return Err(Error::shape("pack", problem));
    }
    let row_bytes = rows.len() / ROWS;
    let start = out.len();
    out.resize(start + rows.len(), 0);
    for (b, block) in out[start..].chunks_exact_mut(bytes).enumerate() {
        for r in 0..ROWS {
            let row = &rows[r * row_bytes + b * row_block..][..row_block];
            for (from, to, n) in pieces(ty, r) {
                block[to..to + n].copy_from_slice(&row[from..from + n]);
            }
        }
    }
    Ok(())
}

/// Row `r` of a panel in the file's layout: what [`pack`] took, appended to `out`.
pub fn unpack_row(ty: GgmlType, panel: &[u8], r: usize, out: &mut Vec<u8>) {
    for block in panel.chunks_exact(ROWS * ty.bytes_per_block()) {
        for (_, at, n) in pieces(ty, r) {
            out.extend_from_slice(&block[at..at + n]);
        }
    }
}

/// The parts of row `r`'s block in their order: where each lies there, where in the block of sixteen, and its length.
fn pieces(ty: GgmlType, r: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let weights = weights_at(ty);
    let numbers = (0..weights / 2).map(move |i| (2 * i, 2 * (i * ROWS + r), 2));
    let units = 0..(ty.bytes_per_block() - weights) / 4;
    numbers.chain(units.map(move |u| (weights + 4 * u, weights * ROWS + 4 * (u * ROWS + r), 4)))
}
