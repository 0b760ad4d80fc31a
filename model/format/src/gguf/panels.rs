//! Packed files: matrices in panels of sixteen rows ([`crate::quant::rows16`]) inside a GGUF file.
//!
//! A packed file holds the metadata and tensors of an ordinary one, but every matrix of whole panels in a type that
//! has panels is reordered, and its name ends in `.rows16`. It is a valid GGUF file; other programs report a missing
//! tensor instead of misreading it. Here are the names of that layout and the reordering of whole panels.

use super::Gguf;
use crate::quant::{GgmlType, rows16};
use crate::{Error, Result};

/// The metadata key that tells the layout.
pub const LAYOUT: &str = "retort.layout";
/// Its value, and the end of a reordered tensor's name.
pub const ROWS16: &str = "rows16";

/// How the matrices of a file lie in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Row after row, as every reader of GGUF expects.
    #[default]
    Plain,
    /// In panels of sixteen rows where the format has them: faster, for retort-edge alone.
    Rows16,
}

/// The name of tensor `name` in panels.
pub fn panels_name(name: &str) -> String {
    format!("{name}.{ROWS16}")
}

/// Whether the tensor `name` lies in panels.
pub fn is_in_panels(name: &str) -> bool {
    name.ends_with(&panels_name(""))
}

/// Refuses a packed file where the file's own order of rows is needed.
///
/// # Errors
///
/// [`Error::Unsupported`] if `gguf` is packed.
pub fn refuse_packed(gguf: &Gguf) -> Result<()> {
    if gguf.get(LAYOUT).is_none() {
        return Ok(());
    }
    let problem = "is packed for retort-edge; name the file that it was packed from";
    Err(Error::unsupported(gguf.path(), problem))
}

/// What is wrong with a model that [`can_be_packed`] takes no tensor of.
pub const NOTHING_TO_PACK: &str =
    "holds no Q4_0, Q4_1 or Q8_0 matrix of a multiple of 16 rows, so there is nothing to pack";

/// Two dimensions, of which the second is whole panels, of a format that has them.
pub fn can_be_packed(ty: GgmlType, dims: &[u64]) -> bool {
    matches!(dims, [_, rows] if usize::try_from(*rows).is_ok_and(|rows| rows16::fits(ty, rows)))
}

/// The name of a tensor in the file, `in_panels` or not.
pub fn name_of(name: &str, in_panels: bool) -> String {
    match in_panels {
        true => panels_name(name),
        false => name.to_owned(),
    }
}

/// Takes whole panels from the front of `rows`, encoded rows of `row_bytes` bytes each, and puts them
/// into `panels`, which loses what it held.
pub fn take_panels(
    ty: GgmlType,
    row_bytes: usize,
    rows: &mut Vec<u8>,
    panels: &mut Vec<u8>,
) -> Result<()> {
    panels.clear();
    let whole = rows.chunks_exact(row_bytes * rows16::ROWS);
    let left = whole.remainder().len();
    for panel in whole {
        rows16::pack(ty, panel, panels)?;
    }
    rows.drain(..rows.len() - left);
    Ok(())
}
