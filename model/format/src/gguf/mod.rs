//! GGUF files: a header, metadata (keys to typed values), tensor descriptions, then the tensors' bytes.
//!
//! Reading maps the file and hands out views into it; writing streams tensors one after another, so neither holds a
//! model in memory. Format: the GGUF specification (`ggml/docs/gguf.md`), versions 2 and 3, little-endian. Nothing in
//! a file is trusted: see [`parse`](self) for the limits.

pub mod check;
mod metadata;
pub mod names;
pub mod panels;
mod parse;
mod reader;
mod value;
mod writer;

pub use metadata::Metadata;
pub use value::{Array, Value};
pub use writer::Writer;

use crate::error::{Error, Result};
use crate::map::Map;
use crate::quant::GgmlType;
use std::collections::HashMap;
use std::path::Path;

/// An open GGUF file.
pub struct Gguf {
    metadata: Metadata,
    map: Map,
    header: parse::Header,
    by_name: HashMap<String, usize>,
}

/// One tensor's description and its bytes in the mapped file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// Sizes in GGUF's order: `dims[0]` is the length of a row, which is contiguous.
    pub dims: &'a [u64],
    /// Element format.
    pub ty: GgmlType,
    /// The encoded elements.
    pub data: &'a [u8],
    /// Where they begin in the file, in bytes.
    pub offset: u64,
}

impl TensorView<'_> {
    /// The number of elements (bounded by the file's size, so the product cannot overflow).
    pub fn n_elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Row length and number of rows, the outer dimensions taken together; a tensor without dimensions is one number.
    pub fn shape(&self) -> (usize, usize) {
        let cols = self.dims.first().map_or(1, |&d| d as usize);
        (
            cols,
            self.dims.iter().skip(1).map(|&d| d as usize).product(),
        )
    }

    /// All elements as f32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.n_elements() as usize];
        crate::quant::dequantize_row(self.ty, self.data, &mut out)?;
        Ok(out)
    }
}

impl Gguf {
    /// Maps the file at `path` and parses its header.
    pub fn open(path: &Path) -> Result<Gguf> {
        let map = Map::open(path)?;
        let mut header =
            parse::parse(map.bytes()).map_err(|problem| Error::format(path, problem))?;
        let by_name = header
            .tensors
            .iter()
            .enumerate()
            .map(|(i, t)| (t.name.clone(), i))
            .collect();
        Ok(Gguf {
            metadata: Metadata::of_file(path, std::mem::take(&mut header.metadata)),
            map,
            header,
            by_name,
        })
    }

    /// Lets go of the memory that a tensor's bytes take while they are mapped; they are read again when they are needed.
    pub fn forget(&self, tensor: &TensorView) {
        self.map.forget(tensor.data);
    }

    /// The whole file, mapped; a [`TensorView`] tells where its bytes begin.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The file's size in bytes.
    pub fn file_size(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    /// The format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Keys and values, which this type dereferences to.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in the file's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.tensors.iter().map(|t| self.view(t))
    }

    /// Whether a tensor of this name exists.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        match self.by_name.get(name) {
            Some(&i) => Ok(self.view(&self.header.tensors[i])),
            None => Err(Error::tensor(
                self.path(),
                name,
                "is not in the file; it may be incomplete or of another model",
            )),
        }
    }

    fn view<'a>(&'a self, t: &'a parse::Tensor) -> TensorView<'a> {
        // the parser has checked that the range lies inside the file
        let data = &self.map.bytes()[t.range.clone()];
        TensorView {
            name: &t.name,
            dims: &t.dims,
            ty: t.ty,
            data,
            offset: t.range.start as u64,
        }
    }
}

impl std::ops::Deref for Gguf {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

impl std::fmt::Debug for Gguf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Gguf({}, {} tensors)",
            self.path().display(),
            self.header.tensors.len()
        )
    }
}

#[cfg(test)]
mod tests;
