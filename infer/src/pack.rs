//! A GGUF file into another whose Q4_0 matrices lie in panels of sixteen rows (`kernels::rows16`).
//!
//! In: any GGUF file that the engine runs. Out: the same metadata, tensors and bytes, but every
//! Q4_0 matrix of whole panels reordered and its name ended with `.rows16`, so that no reader takes
//! it for what it is not: it is a valid GGUF file, other programs say that a tensor is missing. The
//! products of such a matrix need no second copy in memory and no unpacking. Memory: one panel.

use std::path::Path;

use crate::gguf::{Gguf, TensorView, Writer};
use crate::kernels::rows16;
use crate::{Error, Result};

/// The metadata key that tells the layout.
const LAYOUT: &str = "retort.layout";
/// Its value, and the end of a reordered tensor's name.
const ROWS16: &str = "rows16";
/// Rows of a panel.
const PANEL: usize = 16;

/// The name of tensor `name` in panels.
pub(crate) fn panels_name(name: &str) -> String {
    format!("{name}.{ROWS16}")
}

/// Refuses a packed file where the file's own order of rows is needed.
///
/// # Errors
///
/// [`Error::Unsupported`] if `gguf` is packed.
pub(crate) fn refuse_packed(gguf: &Gguf) -> Result<()> {
    if gguf.get(LAYOUT).is_none() {
        return Ok(());
    }
    let problem = "is packed for retort-edge; name the file that it was packed from";
    Err(Error::unsupported(gguf.path(), problem))
}

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
    let matrices = gguf.tensors().filter(can_be_packed).count();
    if matrices == 0 {
        let problem = "holds no Q4_0 matrix of a multiple of 16 rows, so there is nothing to pack";
        return Err(Error::unsupported(file, problem));
    }
    let mut writer = Writer::new(out);
    for (key, value) in gguf.metadata() {
        if key != "general.alignment" {
            writer.set(key, value.clone())?;
        }
    }
    writer.set(LAYOUT, ROWS16)?;
    for tensor in gguf.tensors() {
        writer.declare(&name_of(&tensor), tensor.dims, tensor.ty)?;
    }
    let total = gguf.tensors().map(|tensor| tensor.data.len() as u64).sum();
    let mut done = 0;
    let mut panel = Vec::new();
    for tensor in gguf.tensors() {
        let name = name_of(&tensor);
        let packs = can_be_packed(&tensor);
        let bytes = match tensor.shape() {
            (_, rows) if packs => tensor.data.len() / rows * PANEL,
            _ => 1 << 20,
        };
        for part in tensor.data.chunks(bytes) {
            if packs {
                panel.clear();
                rows16::pack(part, &mut panel)?;
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

/// Two dimensions, of which the second is whole panels.
fn can_be_packed(tensor: &TensorView) -> bool {
    tensor.dims.len() == 2 && rows16::fits(tensor.ty, tensor.shape().1)
}

fn name_of(tensor: &TensorView) -> String {
    match can_be_packed(tensor) {
        true => panels_name(tensor.name),
        false => tensor.name.to_owned(),
    }
}
