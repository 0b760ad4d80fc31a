//! GGUF files: a header, metadata (keys to typed values), tensor descriptions, then the tensors' bytes.
//!
//! Reading maps the file and hands out views into it; writing streams tensors one after another, so neither holds a
//! model in memory. Format: the GGUF specification (`ggml/docs/gguf.md`), versions 2 and 3, little-endian. Nothing in
//! a file is trusted: see [`parse`](self) for the limits.

pub mod panels;
mod parse;
pub mod rope_scaling;
pub mod tensor_names;
mod value;
mod writer;

pub use value::{Array, Value};
pub use writer::Writer;

use crate::map::Map;
use crate::quant::GgmlType;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
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
        let header = parse::parse(map.bytes()).map_err(|problem| Error::format(path, problem))?;
        let by_name = header
            .tensors
            .iter()
            .enumerate()
            .map(|(i, t)| (t.name.clone(), i))
            .collect();
        Ok(Gguf {
            path: path.to_owned(),
            map,
            header,
            by_name,
        })
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the memory that a tensor's bytes take while they are mapped; they are read again when they are needed.
    pub fn forget(&self, tensor: &TensorView) {
        self.map.forget(tensor.data);
    }

    /// The file's size in bytes.
    pub fn file_size(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    /// The format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// All metadata in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.header
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header
            .metadata
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value)
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
                &self.path,
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

/// Typed metadata: each getter's error names the file, the key, and what stands there instead.
impl Gguf {
    fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        f: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| {
            Error::metadata(&self.path, key, format!("missing; {what} is needed"))
        })?;
        f(value).ok_or_else(|| {
            let problem = format!("is {}, but {what} is needed", value.describe());
            Error::metadata(&self.path, key, problem)
        })
    }

    /// An integer of any width that fits 32 bits unsigned.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "an unsigned 32-bit integer", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// An integer of any width that fits 64 bits unsigned.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.typed(key, "an unsigned integer", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// An integer of any width that fits a size in memory.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.typed(key, "a size", |v| v.as_integer()?.try_into().ok())
    }

    /// A floating-point number.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "a number", Value::as_f32)
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "a boolean", |v| {
            if let Value::Bool(b) = v {
                Some(*b)
            } else {
                None
            }
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "a string", |v| {
            if let Value::Str(s) = v {
                Some(s.as_str())
            } else {
                None
            }
        })
    }

    /// An array of strings.
    pub fn str_array(&self, key: &str) -> Result<&[String]> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::Str(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width, each fitting 32 bits signed.
    pub fn i32_array(&self, key: &str) -> Result<Vec<i32>> {
        self.typed(key, "an array of 32-bit integers", |v| {
            if let Value::Array(a) = v {
                a.to_i32()
            } else {
                None
            }
        })
    }

    /// An array of single-precision numbers.
    pub fn f32_array(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "an array of 32-bit floats", |v| match v {
            Value::Array(Array::F32(a)) => Some(a.as_slice()),
            _ => None,
        })
    }
}

impl std::fmt::Debug for Gguf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Gguf({}, {} tensors)",
            self.path.display(),
            self.header.tensors.len()
        )
    }
}

#[cfg(test)]
mod tests;
