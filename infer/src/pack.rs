//! Matrices in panels of sixteen rows (`kernels::rows16`) in a GGUF file.
//!
//! Such a file holds the same metadata, tensors and bytes as another, but every matrix of whole
//! panels, in a format that has them, reordered and its name ended with `.rows16`, so that no
//! reader takes it for what it is not: it is a valid GGUF file, other programs say that a tensor is
//! missing. The products of such a matrix need no second copy in memory and no unpacking. [`pack`]
//! makes one of any file that the engine runs, in the memory of one panel; export writes the same.

use std::path::Path;

use crate::gguf::{Gguf, TensorView, Writer};
use crate::kernels::rows16;
use crate::{Error, GgmlType, Result};

/// The metadata key that tells the layout.
pub(crate) const LAYOUT: &str = "retort.layout";
/// Its value, and the end of a reordered tensor's name.
pub(crate) const ROWS16: &str = "rows16";
/// Rows of a panel.
const PANEL: usize = 16;

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
pub(crate) fn panels_name(name: &str) -> String {
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
            (_, rows) if packs => tensor.data.len() / rows * PANEL,
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

/// What is wrong with a model that [`can_be_packed`] takes no tensor of.
pub(crate) const NOTHING_TO_PACK: &str =
    "holds no Q4_0, Q4_1 or Q8_0 matrix of a multiple of 16 rows, so there is nothing to pack";

/// Two dimensions, of which the second is whole panels, of a format that has them.
pub(crate) fn can_be_packed(ty: GgmlType, dims: &[u64]) -> bool {
    matches!(dims, [_, rows] if usize::try_from(*rows).is_ok_and(|rows| rows16::fits(ty, rows)))
}

/// The name of a tensor in the file, `in_panels` or not.
pub(crate) fn name_of(name: &str, in_panels: bool) -> String {
    match in_panels {
        true => panels_name(name),
        false => name.to_owned(),
    }
}

/// Takes whole panels from the front of `rows`, encoded rows of `row_bytes` bytes each, and puts them
/// into `panels`, which loses what it held.
pub(crate) fn take_panels(
    ty: GgmlType,
    row_bytes: usize,
    rows: &mut Vec<u8>,
    panels: &mut Vec<u8>,
) -> Result<()> {
    panels.clear();
    let whole = rows.chunks_exact(row_bytes * PANEL);
    let left = whole.remainder().len();
    for panel in whole {
        rows16::pack(ty, panel, panels)?;
    }
    rows.drain(..rows.len() - left);
    Ok(())
}
