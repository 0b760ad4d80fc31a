//! The header of a GGUF file from its bytes, which may be anything at all.
//!
//! Limits, checked before anything is allocated: every count (keys, tensors, array elements) times the least size of
//! one such thing, and every string's length, must fit what is left of the file; a tensor has at most four
//! dimensions, its element count and byte range are computed with checked arithmetic and must lie inside the file;
//! the alignment is a power of two of at most 64 KiB. Memory used is therefore a small multiple of the file's size.
//!
//! Errors are plain texts (field, offset, remedy), to which the caller adds the file's name.

use super::value::{ARRAY, Array, Value};
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

type Parsed<T> = Result<T, String>;

/// ggml's limit for tensor names is 64 bytes; keys may have 65535. Both are held to the latter.
const MAX_NAME: usize = 65_535;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 65_536;
const CUT_SHORT: &str = "the file is cut short or damaged; fetch or export it again";

/// Parses the header out of a whole file.
pub(super) fn parse(bytes: &[u8]) -> Parsed<Header> {
    let mut r = Reader { bytes, at: 0 };
    if bytes.len() < 4 || r.take(4, "magic")? != b"GGUF" {
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
    let n_keys = r.bounded(n_keys, 8 + 4 + 1, "metadata count")?;

    let mut metadata = Vec::with_capacity(n_keys);
    let mut seen = HashSet::with_capacity(n_keys);
    for i in 0..n_keys {
        let key = r.string(MAX_NAME, || format!("metadata key {i}"))?;
        let ty = r.u32("metadata type")?;
        let value = value(&mut r, ty, &key)?;
        if !seen.insert(key.clone()) {
            return Err(format!("metadata key {key} stands twice; {CUT_SHORT}"));
        }
        metadata.push((key, value));
    }
    let alignment = alignment(&metadata)?;

    let n_tensors = r.bounded(n_tensors, 8 + 4 + 4 + 8, "tensor count")?;
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
    let name = r.string(MAX_NAME, || format!("name of tensor {i}"))?;
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

fn value(r: &mut Reader, ty: u32, key: &str) -> Parsed<Value> {
    Ok(match ty {
        0 => Value::U8(r.number(key)?),
        1 => Value::I8(r.number(key)?),
        2 => Value::U16(r.number(key)?),
        3 => Value::I16(r.number(key)?),
        4 => Value::U32(r.number(key)?),
        5 => Value::I32(r.number(key)?),
        6 => Value::F32(r.number(key)?),
        7 => Value::Bool(r.number::<u8>(key)? != 0),
        8 => Value::Str(r.string(usize::MAX, || format!("metadata key {key}"))?),
        ARRAY => Value::Array(array(r, key)?),
        10 => Value::U64(r.number(key)?),
        11 => Value::I64(r.number(key)?),
        12 => Value::F64(r.number(key)?),
        _ => {
            return Err(format!(
                "metadata key {key} has unknown type {ty}; {CUT_SHORT}"
            ));
        }
    })
}

fn array(r: &mut Reader, key: &str) -> Parsed<Array> {
    let ty = r.u32(key)?;
    let n = r.u64(key)?;
    Ok(match ty {
        0 => Array::U8(r.numbers(n, key)?),
        1 => Array::I8(r.numbers(n, key)?),
        2 => Array::U16(r.numbers(n, key)?),
        3 => Array::I16(r.numbers(n, key)?),
        4 => Array::U32(r.numbers(n, key)?),
        5 => Array::I32(r.numbers(n, key)?),
        6 => Array::F32(r.numbers(n, key)?),
        7 => Array::Bool(
            r.numbers::<u8>(n, key)?
                .into_iter()
                .map(|b| b != 0)
                .collect(),
        ),
        8 => {
            let n = r.bounded(n, 8, key)?;
            let strings =
                (0..n).map(|i| r.string(usize::MAX, || format!("metadata key {key}, element {i}")));
            Array::Str(strings.collect::<Parsed<_>>()?)
        }
        ARRAY => {
            return Err(format!(
                "metadata key {key} is an array of arrays, which is not read here"
            ));
        }
        10 => Array::U64(r.numbers(n, key)?),
        11 => Array::I64(r.numbers(n, key)?),
        12 => Array::F64(r.numbers(n, key)?),
        _ => {
            return Err(format!(
                "metadata key {key} is an array of unknown type {ty}; {CUT_SHORT}"
            ));
        }
    })
}

/// A little-endian number of known size.
trait Number: Sized {
    const SIZE: usize;
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($ty:ty),*) => { $(
        impl Number for $ty {
            const SIZE: usize = size_of::<$ty>();
            fn read(bytes: &[u8]) -> Option<Self> { Some(<$ty>::from_le_bytes(bytes.try_into().ok()?)) }
        }
    )* };
}

numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

/// The bytes and how far they have been read; never past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize, what: &str) -> Parsed<&'a [u8]> {
        if n > self.left() {
            return Err(format!(
                "ends at byte {} inside {what}; {CUT_SHORT}",
                self.bytes.len()
            ));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn number<T: Number>(&mut self, what: &str) -> Parsed<T> {
        let bytes = self.take(T::SIZE, what)?;
        T::read(bytes).ok_or_else(|| format!("{what}: no number; {CUT_SHORT}"))
    }

    fn u32(&mut self, what: &str) -> Parsed<u32> {
        self.number(what)
    }

    fn u64(&mut self, what: &str) -> Parsed<u64> {
        self.number(what)
    }

    /// A count of things that take at least `least` bytes each, held against what is left of the file.
    fn bounded(&self, n: u64, least: usize, what: &str) -> Parsed<usize> {
        match usize::try_from(n) {
            Ok(n) if n <= self.left() / least => Ok(n),
            _ => Err(format!(
                "{what}: {n} elements do not fit the {} bytes left of the file; {CUT_SHORT}",
                self.left()
            )),
        }
    }

    fn numbers<T: Number>(&mut self, n: u64, what: &str) -> Parsed<Vec<T>> {
        let n = self.bounded(n, T::SIZE, what)?;
        let bytes = self.take(n * T::SIZE, what)?;
        Ok(bytes.chunks_exact(T::SIZE).filter_map(T::read).collect())
    }

    fn string(&mut self, longest: usize, what: impl Fn() -> String) -> Parsed<String> {
        let n = self.u64("a string's length")?;
        match usize::try_from(n) {
            Ok(n) if n <= longest && n <= self.left() => {
                let bytes = self.take(n, "a string")?;
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| format!("{} is not UTF-8; {CUT_SHORT}", what()))?;
                Ok(text.to_owned())
            }
            _ => Err(format!(
                "{}: a string of {n} bytes does not fit the file; {CUT_SHORT}",
                what()
            )),
        }
    }
}
