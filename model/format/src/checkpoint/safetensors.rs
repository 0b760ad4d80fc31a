//! Safetensors in: a checkpoint's files, memory-mapped, and checked as a whole before anything
//! is allocated.
//!
//! In: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. Out: rows of
//! a tensor, converted straight from the map into the caller's memory; their pages are given back
//! afterwards, so loading needs no second copy. Format: 8-byte
//! little-endian header length, JSON header, data (huggingface/safetensors).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ::safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::map::Map;
use crate::precision::{Element, Precision, decode, encode};
use crate::tensors::TensorSpec;

/// The tensors of a checkpoint.
pub struct SafetensorsMap {
    path: PathBuf,
    files: Vec<Map>,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl SafetensorsMap {
    /// Maps `model.safetensors`, or the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// A file that is missing, cut, or not safetensors.
    pub fn open(directory: &Path) -> Result<Self> {
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        if single.exists() || !index.exists() {
            return Self::open_files(directory, vec![single]);
        }
        let map = weight_map(&index)?;
        let files: BTreeSet<&String> = map.values().collect();
        let files = files.into_iter().map(|name| directory.join(name));
        let opened = Self::open_files(directory, files.collect())?;
        match map.iter().find(|(name, _)| !opened.contains(name)) {
            Some((name, file)) => {
                let reason = format!("{file} does not hold {name}; download it again");
                Err(Error::format(&index, reason))
            }
            None => Ok(opened),
        }
    }

    /// Maps the one file at `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::open_files(path, vec![path.to_owned()])
    }

    /// `name` is what errors about the tensors as a whole name.
    fn open_files(name: &Path, paths: Vec<PathBuf>) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for path in paths {
            let map = Map::open(&path)?;
            let damaged = |e| Error::format(&path, format!("not a complete safetensors file: {e}"));
            // Checks the header against the file's length, and the offsets against the shapes.
            let (header, metadata) = SafeTensors::read_metadata(map.bytes()).map_err(damaged)?;
            let data = header + size_of::<u64>();
            for (name, info) in metadata.tensors() {
                let (first, end) = info.data_offsets;
                let entry = Entry {
                    file: files.len(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    bytes: data + first..data + end,
                };
                if tensors.insert(name.clone(), entry).is_some() {
                    let reason = format!("{name} is in another shard, too");
                    return Err(Error::format(&path, reason));
                }
            }
            files.push(map);
        }
        Ok(Self {
            path: name.to_owned(),
            files,
            tensors,
        })
    }

    /// Whether the checkpoint holds tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether tensors `a` and `b` are both there with the same bytes.
    pub fn equal(&self, a: &str, b: &str) -> bool {
        let bytes = |name| {
            let entry = self.tensors.get(name)?;
            Some((
                entry.dtype,
                &self.files[entry.file].bytes()[entry.bytes.clone()],
            ))
        };
        bytes(a).is_some() && bytes(a) == bytes(b)
    }

    /// Forgets tensor `name`.
    pub fn ignore(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// The type of the largest tensor.
    pub fn stored_precision(&self) -> Precision {
        let largest = self.tensors.values().max_by_key(|e| e.bytes.len());
        largest
            .and_then(|e| Precision::from_dtype(e.dtype))
            .unwrap_or_default()
    }

    /// The type of all tensors, if it is one.
    pub fn common_precision(&self) -> Option<Precision> {
        let mut types = self.tensors.values().map(|entry| entry.dtype);
        let first = types.next()?;
        types
            .all(|ty| ty == first)
            .then(|| Precision::from_dtype(first))?
    }

    /// Checks that the checkpoint holds exactly `expected`.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every missing, misshapen, unreadable and extra tensor.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<()> {
        let mut problems = Vec::new();
        for TensorSpec { name, shape, .. } in expected {
            match self.tensors.get(name) {
                None => problems.push(format!("{name} is missing")),
                Some(entry) if entry.shape != *shape => {
                    problems.push(format!("{name} is {:?}, expected {shape:?}", entry.shape));
                }
                Some(Entry { dtype, .. }) if Precision::from_dtype(*dtype).is_none() => {
                    problems.push(format!(
                        "{name} has type {dtype:?}, expected F32, F16 or BF16"
                    ));
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<&String> = expected.iter().map(|t| &t.name).collect();
        for name in self.tensors.keys() {
            // Old checkpoints carry the rotary frequencies as a buffer.
            if !known.contains(name) && !name.ends_with("rotary_emb.inv_freq") {
                problems.push(format!("{name} is not part of the model"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors {
            path: self.path.clone(),
            problems,
        })
    }

    /// Rows `rows` of `spec`, row-major or, with `transpose`, column by column. A vector has one
    /// column.
    ///
    /// # Panics
    /// `spec` is not among the tensors that [`check`](Self::check) has found, or has fewer rows.
    pub fn rows<T: Element>(
        &self,
        spec: &TensorSpec,
        rows: Range<usize>,
        transpose: bool,
    ) -> Vec<T> {
        let (from, row, map, bytes) = self.place(spec);
        let bytes = bytes.start + rows.start * row..bytes.start + rows.end * row;
        let dims = [rows.len(), row / from.size()];
        let values = decode(&map.bytes()[bytes.clone()], from, dims, transpose);
        map.forget(&map.bytes()[bytes]);
        values
    }

    /// The elements of `spec` in `[rows, columns]`, times `scale`, as little-endian `to`.
    ///
    /// # Panics
    /// As [`rows`](Self::rows); a row or column that is not there.
    pub fn gather(
        &self,
        spec: &TensorSpec,
        [rows, columns]: [&[usize]; 2],
        scale: f32,
        to: Precision,
    ) -> Vec<u8> {
        let (from, width, map, bytes) = self.place(spec);
        let size = from.size();
        let whole = columns.iter().copied().eq(0..width / size);
        let mut out = Vec::with_capacity(rows.len() * columns.len() * to.size());
        for &r in rows {
            let row = &map.bytes()[bytes.clone()][r * width..(r + 1) * width];
            if from != to || scale != 1.0 {
                let row: Vec<f32> = decode(row, from, [1, width / size], false);
                let chosen: Vec<f32> = columns.iter().map(|&c| row[c] * scale).collect();
                out.extend(encode(&chosen, to, [1, columns.len()], false));
            } else if whole {
                out.extend_from_slice(row);
            } else if size == 2 {
                let row = row.as_chunks::<2>().0;
                columns.iter().for_each(|&c| out.extend(row[c]));
            } else {
                let row = row.as_chunks::<4>().0;
                columns.iter().for_each(|&c| out.extend(row[c]));
            }
        }
        map.forget(&map.bytes()[bytes]);
        out
    }

    /// The type of `spec`'s elements, the bytes of its rows, and where they lie.
    fn place(&self, spec: &TensorSpec) -> (Precision, usize, &Map, Range<usize>) {
        let entry = &self.tensors[&spec.name];
        let from = Precision::from_dtype(entry.dtype).expect("checked");
        let columns = spec.shape.get(1).copied().unwrap_or(1);
        let map = &self.files[entry.file];
        (from, columns * from.size(), map, entry.bytes.clone())
    }
}

/// Which tensor is in which file.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::format(index, e))?;
    let map: BTreeMap<String, String> = serde_json::from_value(json["weight_map"].take())
        .map_err(|e| Error::format(index, format!("field weight_map: {e}")))?;
    let plain = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
    match map.values().find(|name| !plain(name)) {
        Some(name) => {
            let reason = format!("field weight_map: {name:?} is not a file name");
            Err(Error::format(index, reason))
        }
        None => Ok(map),
    }
}
