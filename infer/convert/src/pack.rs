//! Packs a GGUF file for retort-edge: every matrix that has panels is reordered into them.
//!
//! In: any file that the engine runs. Out: the same metadata, tensors and bytes with matrices in panels of sixteen
//! rows ([`retort_format::gguf::panels`]). A part of a tensor is in memory at a time; export writes the same layout directly.

use std::path::Path;

use retort_format::gguf::panels::{
    Layout, LayoutWriter, NOTHING_TO_PACK, can_be_packed, refuse_packed,
};
use retort_format::gguf::{Gguf, TensorView};
use retort_format::{Error, Result};

/// About how many bytes are copied at once.
const PART: usize = 1 << 20;

/// What [`pack`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Matrices in panels.
    pub matrices: usize,
    /// Tensors left as they were.
    pub others: usize,
}

/// Writes the model of `file` to `out`, packed; `progress` gets bytes done and bytes in all.
///
/// # Errors
///
/// [`Error::Unsupported`] if no tensor can be packed or all are already; errors of reading and
/// writing as [`Gguf`] and [`LayoutWriter`] give them. Nothing is left at `out` then.
pub fn pack(file: &Path, out: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Packed> {
    let gguf = Gguf::open(file)?;
    refuse_packed(&gguf)?;
    let packs = |tensor: &TensorView| can_be_packed(tensor.ty, tensor.dims);
    let matrices = gguf.tensors().filter(packs).count();
    if matrices == 0 {
        return Err(Error::unsupported(file, NOTHING_TO_PACK));
    }
    let mut writer = LayoutWriter::new(out, gguf.metadata(), Layout::Rows16)?;
    for tensor in gguf.tensors() {
        writer.declare(tensor.name, tensor.dims, tensor.ty)?;
    }
    let total = gguf.tensors().map(|tensor| tensor.data.len() as u64).sum();
    let mut done = 0;
    for tensor in gguf.tensors() {
        for part in tensor.data.chunks(PART) {
            writer.write(tensor.name, part)?;
            done += part.len() as u64;
            progress(done, total);
        }
    }
    writer.finish()?;
    let others = gguf.tensors().len() - matrices;
    Ok(Packed { matrices, others })
}
