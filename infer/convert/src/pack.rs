//! Packs a GGUF file for retort-edge: every matrix that has panels is reordered into them.
//!
//! In: any file that the engine runs. Out: the same metadata, tensors and bytes with matrices in panels of sixteen
//! rows ([`retort_format::gguf::panels`]). One panel is in memory at a time; export writes the same layout directly.

use std::path::Path;

use retort_format::gguf::panels::{
    LAYOUT, NOTHING_TO_PACK, ROWS16, can_be_packed, name_of, refuse_packed,
};
use retort_format::gguf::{Gguf, TensorView, Writer};
use retort_format::quant::rows16;
use retort_format::{Error, Result};

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
/// writing as [`Gguf`] and [`Writer`] give them. Nothing is left at `out` then.
pub fn pack(file: &Path, out: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Packed> {
    let gguf = Gguf::open(file)?;
    refuse_packed(&gguf)?;
    let packs = |tensor: &TensorView| can_be_packed(tensor.ty, tensor.dims);
    let matrices = gguf.tensors().filter(packs).count();
    if matrices == 0 {
        return Err(Error::unsupported(file, NOTHING_TO_PACK));
    }
    let mut writer = Writer::new(out);
    for (key, value) in gguf.metadata() {
        if key != "general.alignment" {
            writer.set(key, value.clone())?;
        }
    }
    writer.set(LAYOUT, ROWS16)?;
    for tensor in gguf.tensors() {
        let name = name_of(tensor.name, packs(&tensor));
        writer.declare(&name, tensor.dims, tensor.ty)?;
    }
    let total = gguf.tensors().map(|tensor| tensor.data.len() as u64).sum();
    let mut done = 0;
    let mut panel = Vec::new();
    for tensor in gguf.tensors() {
        let packs = packs(&tensor);
        let name = name_of(tensor.name, packs);
        let bytes = match tensor.shape() {
            (_, rows) if packs => tensor.data.len() / rows * rows16::ROWS,
            _ => 1 << 20,
        };
        for part in tensor.data.chunks(bytes) {
            if packs {
                panel.clear();
                rows16::pack(tensor.ty, part, &mut panel)?;
                writer.write(&name, &panel)?;
            } else {
                writer.write(&name, part)?;
            }
            done += part.len() as u64;
            progress(done, total);
        }
    }
    writer.finish()?;
    let others = gguf.tensors().len() - matrices;
    Ok(Packed { matrices, others })
}
