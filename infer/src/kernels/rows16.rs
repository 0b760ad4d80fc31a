//! Q4_0 in panels of sixteen rows: the same bytes as in the file's own layout, in another order.
//!
//! ```text
//! [rows / 16][cols / 32] blocks of 288 bytes:
//!     16 × f16            the scales of the sixteen rows
//!     4 × 16 rows × 4     unit u of a row: bytes 4u .. 4u + 4 of its Q4_0 block, whose byte i holds
//!                         weight i in the lower four bits and weight i + 16 in the upper four
//! ```
//!
//! A vector of 4-byte lanes then holds as many rows, so products need no horizontal sums, scales are converted
//! sixteen at a time, and nothing has to be unpacked for many tokens. `retort-edge pack` writes such files; how much
//! it gives is in `experiments/results`.

use super::panel::ROWS;
use crate::quant::GgmlType;
use crate::{Error, Result};

/// Bytes of sixteen rows' block.
pub(crate) const BLOCK_BYTES: usize = ROWS * GgmlType::Q4_0.bytes_per_block();
/// Where the nibbles begin in it.
pub(crate) const NIBBLES: usize = 2 * ROWS;
/// Bytes of a Q4_0 block of one row.
const ROW_BLOCK: usize = GgmlType::Q4_0.bytes_per_block();

/// Whether a matrix can be brought into this layout.
pub fn fits(ty: GgmlType, rows: usize) -> bool {
    ty == GgmlType::Q4_0 && rows > 0 && rows.is_multiple_of(ROWS)
}

/// Reorders sixteen rows of Q4_0, `rows` [16, row_bytes], appending them to `out`.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error) if `rows` is not sixteen rows of whole blocks.
pub fn pack(rows: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if rows.is_empty() || !rows.len().is_multiple_of(BLOCK_BYTES) {
        let problem = format!("{} bytes are not {ROWS} rows of Q4_0", rows.len());
        return Err(Error::shape("pack", problem));
    }
    let row_bytes = rows.len() / ROWS;
    let start = out.len();
    out.resize(start + rows.len(), 0);
    for (b, block) in out[start..].chunks_exact_mut(BLOCK_BYTES).enumerate() {
        for r in 0..ROWS {
            let from = &rows[r * row_bytes + b * ROW_BLOCK..][..ROW_BLOCK];
            block[2 * r..2 * r + 2].copy_from_slice(&from[..2]);
            for (u, unit) in from[2..].chunks_exact(4).enumerate() {
                block[NIBBLES + (u * ROWS + r) * 4..][..4].copy_from_slice(unit);
            }
        }
    }
    Ok(())
}

/// Row `r` of a panel in the file's layout: what [`pack`] took, appended to `out`.
pub fn unpack_row(panel: &[u8], r: usize, out: &mut Vec<u8>) {
    for block in panel.chunks_exact(BLOCK_BYTES) {
        out.extend_from_slice(&block[2 * r..2 * r + 2]);
        for u in 0..4 {
            out.extend_from_slice(&block[NIBBLES + (u * ROWS + r) * 4..][..4]);
        }
    }
}
