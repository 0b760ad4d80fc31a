//! The header of a GGUF file from its bytes, which may be anything at all.
//!
//! Limits, checked before anything is allocated: every count (keys, tensors, array elements) times the least size of
//! one such thing, and every string's length, must fit what is left of the file; a tensor has at most four
//! dimensions, its element count and byte range are computed with checked arithmetic and must lie inside the file;
//! the alignment is a power of two of at most 64 KiB. Memory used is therefore a small multiple of the file's size.
//!
//! Errors are plain texts (field, offset, remedy), to which the caller adds the file's name.

use super::reader::{CUT_SHORT, Parsed, Reader};
use super::value::Value;
use crate::quant::GgmlType;
use std::collections::HashSet;
use std::ops::Range;

/// What stands before the tensors' bytes.
pub(super) struct Header {
    pub version: u32,
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

/// A tensor's description; `range` lies inside the file.
pub(super) struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub ty: GgmlType,
    pub range: Range<usize>,
}

/// ggml's limit for tensor names is 64 bytes; keys may have 65535. Both are held to the latter.
const MAX_NAME: usize = 65_535;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 65_536;

/// Parses the header out of a whole file.
pub(super) fn parse(bytes: &[u8]) -> Parsed<Header> {
    let mut r = Reader { bytes, at: 0 };
    if bytes.len() < 4 || r.take(4, &"magic")? != b"GGUF" {
        return Err(
            "is not a GGUF file (its first four bytes are not \"GGUF\"); name a .gguf file".into(),
        );
    }
    let version = r.u32("version")?;
    if !(2..=3).contains(&version) {
        let hint = if version.swap_bytes() == 3 || version.swap_bytes() == 2 {
            " (big-endian)"
        } else {
            ""
        };
        return Err(format!(
            "has GGUF version {version}{hint}; versions 2 and 3, little-endian, are read: convert it anew"
        ));
    }
    let n_tensors = r.u64("tensor count")?;
    let n_keys = r.u64("metadata count")?;
    let n_keys = r.bounded(n_keys, 8 + 4 + 1, &"metadata count")?;

    let mut metadata = Vec::with_capacity(n_keys);
    let mut seen = HashSet::with_capacity(n_keys);
    for i in 0..n_keys {
        let key = r.string(MAX_NAME, &format_args!("metadata key {i}"))?;
        let value = Value::read(&mut r, &key)?;
        if !seen.insert(key.clone()) {
            return Err(format!("metadata key {key} stands twice; {CUT_SHORT}"));
        }
        metadata.push((key, value));
    }
    let alignment = alignment(&metadata)?;

    let n_tensors = r.bounded(n_tensors, 8 + 4 + 4 + 8, &"tensor count")?;
    let mut tensors = Vec::with_capacity(n_tensors);
    let mut names = HashSet::with_capacity(n_tensors);
    for i in 0..n_tensors {
        let (tensor, offset) = tensor(&mut r, i)?;
        if offset % alignment != 0 {
            return Err(format!(
                "tensor {}: offset {offset} is no multiple of {alignment}; {CUT_SHORT}",
                tensor.name
            ));
        }
        if !names.insert(tensor.name.clone()) {
            return Err(format!("tensor {} stands twice; {CUT_SHORT}", tensor.name));
        }
        tensors.push((tensor, offset));
    }

    let start = (r.at as u64).next_multiple_of(alignment);
    let place = |(mut tensor, offset): (Tensor, u64)| {
        let first = start
            .checked_add(offset)
            .and_then(|o| usize::try_from(o).ok());
        let range = first.and_then(|first| Some(first..first.checked_add(tensor.range.len())?));
        match range {
            Some(range) if range.end <= bytes.len() => {
                tensor.range = range;
                Ok(tensor)
            }
            _ => Err(format!(
                "tensor {}: its {} bytes at offset {offset} reach past the end of the file ({} bytes); {CUT_SHORT}",
                tensor.name,
                tensor.range.len(),
                bytes.len()
            )),
        }
    };
    let tensors = tensors.into_iter().map(place).collect::<Parsed<_>>()?;
    Ok(Header {
        version,
        metadata,
        tensors,
    })
}

fn alignment(metadata: &[(String, Value)]) -> Parsed<u64> {
    match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => Ok(32),
        Some((_, value)) => match value.as_integer().and_then(|a| u64::try_from(a).ok()) {
            Some(a) if a.is_power_of_two() && a <= MAX_ALIGNMENT => Ok(a),
            _ => Err(format!(
                "metadata key general.alignment is {}, but a power of two is needed",
                value.describe()
            )),
        },
    }
}

/// A tensor's description with its length as the range `0..length`, and its offset in the data section.
fn tensor(r: &mut Reader, i: usize) -> Parsed<(Tensor, u64)> {
    let name = r.string(MAX_NAME, &format_args!("name of tensor {i}"))?;
    let n_dims = r.u32("tensor dimensions")?;
    if n_dims > MAX_DIMS {
        return Err(format!(
            "tensor {name}: {n_dims} dimensions, at most {MAX_DIMS} are possible; {CUT_SHORT}"
        ));
    }
    let dims = (0..n_dims)
        .map(|_| r.u64("tensor dimension"))
        .collect::<Parsed<Vec<u64>>>()?;
    let id = r.u32("tensor type")?;
    let ty = GgmlType::from_id(id).ok_or_else(|| {
        let known = GgmlType::ALL.map(GgmlType::name).join(", ");
        format!("tensor {name} has element type {id}, which is not read here; use a file quantized to one of {known}")
    })?;
    let offset = r.u64("tensor offset")?;

    let size = || -> Option<usize> {
        let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        let cols = usize::try_from(dims.first().copied().unwrap_or(1)).ok()?;
        if cols == 0 {
            return Some(0);
        }
        let rows = usize::try_from(elements / cols as u64).ok()?;
        ty.row_bytes(cols)?.checked_mul(rows)
    };
    match size() {
        Some(0) => Err(format!(
            "tensor {name} is empty (sizes {dims:?}); {CUT_SHORT}"
        )),
        Some(length) => Ok((
            Tensor {
                name,
                dims,
                ty,
                range: 0..length,
            },
            offset,
        )),
        None => Err(format!(
            "tensor {name}: sizes {dims:?} are impossible for {ty}; {CUT_SHORT}"
        )),
    }
}
