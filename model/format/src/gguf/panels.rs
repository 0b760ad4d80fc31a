//! Packed files: matrices in panels of sixteen rows ([`crate::quant::rows16`]) inside a GGUF file.
//!
//! A packed file holds the metadata and tensors of an ordinary one, but every matrix of whole panels in a type that
//! has panels is reordered, and its name ends in `.rows16`. It is a valid GGUF file; other programs report a missing
//! tensor instead of misreading it. Here are the names of that layout and the reordering of whole panels.

use super::metadata::Metadata;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::quant::{GgmlType, rows16};
use std::collections::HashMap;
use std::path::Path;

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
pub fn refuse_packed(gguf: &Metadata) -> Result<()> {
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

/// A [`Writer`] of tensors that lie in a [`Layout`].
pub struct LayoutWriter {
    writer: Writer,
    layout: Layout,
    /// Name, type and bytes of a row of every tensor in panels.
    packed: HashMap<String, (GgmlType, usize)>,
    /// Rows of the tensor being written that are no whole panel yet.
    rows: Vec<u8>,
    panels: Vec<u8>,
}

impl LayoutWriter {
    /// Starts a file at `path` with these keys.
    ///
    /// # Errors
    ///
    /// As [`Writer::set`].
    pub fn new(path: &Path, metadata: &Metadata, layout: Layout) -> Result<Self> {
        let mut writer = Writer::new(path);
        writer.set_all(metadata)?;
        if layout == Layout::Rows16 {
            writer.set(LAYOUT, ROWS16)?;
        }
        Ok(Self {
            writer,
            layout,
            packed: HashMap::new(),
            rows: Vec::new(),
            panels: Vec::new(),
        })
    }

    /// The number of declared tensors in panels.
    pub fn packed(&self) -> usize {
        self.packed.len()
    }

    /// As [`Writer::declare`]; a matrix that can be goes into panels if the layout has them.
    ///
    /// # Errors
    ///
    /// As [`Writer::declare`].
    pub fn declare(&mut self, name: &str, dims: &[u64], ty: GgmlType) -> Result<()> {
        if self.layout == Layout::Plain || !can_be_packed(ty, dims) {
            return self.writer.declare(name, dims, ty);
        }
        self.writer.declare(&panels_name(name), dims, ty)?;
        let row_bytes = usize::try_from(dims[0]).ok().and_then(|n| ty.row_bytes(n));
        self.packed
            .insert(name.to_owned(), (ty, row_bytes.unwrap_or(0)));
        Ok(())
    }

    /// Appends encoded rows to tensor `name`, in its own order.
    ///
    /// # Errors
    ///
    /// As [`Writer::write`].
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(&(ty, row_bytes)) = self.packed.get(name) else {
            return self.writer.write(name, bytes);
        };
        self.rows.extend_from_slice(bytes);
        self.panels.clear();
        let whole = self.rows.chunks_exact(row_bytes * rows16::ROWS);
        let left = whole.remainder().len();
        for panel in whole {
            rows16::pack(ty, panel, &mut self.panels)?;
        }
        self.rows.drain(..self.rows.len() - left);
        self.writer.write(&panels_name(name), &self.panels)
    }

    /// As [`Writer::finish`].
    ///
    /// # Errors
    ///
    /// As [`Writer::finish`].
    pub fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}
