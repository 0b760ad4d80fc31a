//! Safetensors in: a checkpoint directory's files, mapped, and checked as a whole before
//! anything is allocated.
//!
//! A tensor is converted straight from the map into the model's own memory, and its pages
//! are given back when that is done, so loading needs no second copy. Format: 8-byte
//! little-endian header length, JSON header, data (huggingface/safetensors).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::precision::{Precision, decode, encode};
use crate::tensors::{Kind, TensorSpec};
use crate::weights::Weights;

/// The tensors of a checkpoint directory.
pub(crate) struct Mapped {
    directory: PathBuf,
    files: Vec<Mmap>,
    tensors: BTreeMap<String, Entry>,
    precision: Precision,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Mapped {
    /// Maps `model.safetensors`, or the shards of `model.safetensors.index.json`; matrices
    /// will be given as `precision`.
    ///
    /// # Errors
    /// A file that is missing, cut, or not safetensors.
    pub(crate) fn open(directory: &Path, precision: Precision) -> Result<Self> {
        Self::open_files(directory, shard_paths(directory)?, precision)
    }

    /// The same for given files of `directory`.
    pub(crate) fn open_files(
        directory: &Path,
        paths: Vec<PathBuf>,
        precision: Precision,
    ) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for path in paths {
            let file = File::open(&path).map_err(Error::io(&path))?;
            let map = map(&file).map_err(Error::io(&path))?;
            let damaged =
                |e| Error::invalid(&path, format!("not a complete safetensors file: {e}"));
            // Checks the header against the file's length, and the offsets against the shapes.
            let (header, metadata) = SafeTensors::read_metadata(&map).map_err(damaged)?;
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
                    return Err(Error::invalid(&path, reason));
                }
            }
            files.push(map);
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
            tensors,
            precision,
        })
    }

    /// Whether the checkpoint holds tensor `name`.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether tensors `a` and `b` are both there with the same bytes.
    pub(crate) fn equal(&self, a: &str, b: &str) -> bool {
        let bytes = |name| {
            let entry = self.tensors.get(name)?;
            Some((entry.dtype, &self.files[entry.file][entry.bytes.clone()]))
        };
        bytes(a).is_some() && bytes(a) == bytes(b)
    }

    /// Forgets tensor `name`.
    pub(crate) fn ignore(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// The type of the largest tensor.
    pub(crate) fn stored_precision(&self) -> Precision {
        let largest = self.tensors.values().max_by_key(|e| e.bytes.len());
        largest
            .and_then(|e| Precision::from_file(e.dtype))
            .unwrap_or_default()
    }

    /// Checks that the checkpoint holds exactly `expected`.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every missing, misshapen, unreadable and extra tensor.
    pub(crate) fn check(&self, expected: &[TensorSpec]) -> Result<()> {
        let mut problems = Vec::new();
        for TensorSpec { name, shape, .. } in expected {
            match self.tensors.get(name) {
                None => problems.push(format!("{name} is missing")),
                Some(entry) if entry.shape != *shape => {
                    problems.push(format!("{name} is {:?}, expected {shape:?}", entry.shape));
                }
                Some(Entry { dtype, .. }) if Precision::from_file(*dtype).is_none() => {
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
            path: self.directory.clone(),
            problems,
        })
    }
}

impl Mapped {
    /// Rows `rows` of `spec` in f32.
    ///
    /// # Panics
    /// As [`take`](Weights::take).
    pub(crate) fn values(&self, spec: &TensorSpec, rows: Range<usize>) -> Vec<f32> {
        let (from, row, map, bytes) = self.place(spec);
        let columns = row / from.size();
        let bytes = bytes.start + rows.start * row..bytes.start + rows.end * row;
        let shape = [rows.len(), columns];
        let data = decode(&map[bytes.clone()], from, Precision::F32, shape, false);
        release(map, bytes);
        data.try_into_vec().expect("decoded as f32")
    }

    /// The elements of `spec` in `[rows, columns]`, times `scale`, as little-endian `to`.
    ///
    /// # Panics
    /// As [`take`](Weights::take); a row or column that is not there.
    pub(crate) fn gather(
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
            let row = &map[bytes.clone()][r * width..(r + 1) * width];
            if from != to || scale != 1.0 {
                let shape = [1, width / size];
                let row = decode(row, from, Precision::F32, shape, false);
                let row: Vec<f32> = row.try_into_vec().expect("decoded as f32");
                let chosen: Vec<f32> = columns.iter().map(|&c| row[c] * scale).collect();
                let chosen = TensorData::new(chosen, [columns.len()]);
                out.extend(encode(&chosen, to, false));
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
        release(map, bytes);
        out
    }

    /// The type of `spec`'s elements, the bytes of its rows, and where they lie.
    fn place(&self, spec: &TensorSpec) -> (Precision, usize, &Mmap, Range<usize>) {
        let entry = &self.tensors[&spec.name];
        let from = Precision::from_file(entry.dtype).expect("checked");
        let columns = spec.shape.get(1).copied().unwrap_or(1);
        let map = &self.files[entry.file];
        (from, columns * from.size(), map, entry.bytes.clone())
    }
}

impl Weights for Mapped {
    /// Vectors are always given in f32.
    ///
    /// # Panics
    /// `spec` is not among what [`check`](Mapped::check) has found to be there.
    fn take(&mut self, spec: &TensorSpec, rows: Range<usize>, transpose: bool) -> TensorData {
        let entry = &self.tensors[&spec.name];
        let from = Precision::from_file(entry.dtype).expect("checked");
        let columns = spec.shape.get(1).copied().unwrap_or(1);
        let row = columns * from.size();
        let bytes = entry.bytes.start + rows.start * row..entry.bytes.start + rows.end * row;
        let map = &self.files[entry.file];
        let to = match spec.kind {
            Kind::Bias | Kind::Norm => Precision::F32,
            Kind::Table | Kind::Matrix | Kind::Residual => self.precision,
        };
        let mut data = decode(
            &map[bytes.clone()],
            from,
            to,
            [rows.len(), columns],
            transpose,
        );
        if spec.shape.len() == 1 {
            let (values, _, dtype) = data.into_parts();
            data = TensorData::from_bytes(values, [rows.len()], dtype);
        }
        release(map, bytes);
        data
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only; a checkpoint is written aside and renamed, so no
    // retort process changes one in place. Another program that truncates it while it is
    // read is outside what any mapping reader can guard against.
    unsafe { Mmap::map(file) }
}

/// Takes `range`'s pages out of this process's resident memory; the file's cache keeps them.
#[allow(unsafe_code, unused_variables)]
fn release(map: &Mmap, range: Range<usize>) {
    #[cfg(unix)]
    {
        // SAFETY: on a read-only map of a file, pages that are advised away come back from
        // the file with the same bytes when they are next read.
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // A system that refuses keeps the pages: slower under pressure, not wrong.
        let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
    }
}

fn shard_paths(directory: &Path) -> Result<Vec<PathBuf>> {
    let single = directory.join("model.safetensors");
    let index = directory.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        return Ok(vec![single]);
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::invalid(&index, e))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| Error::invalid(&index, "field weight_map: expected an object"))?;
    let mut shards = BTreeSet::new();
    for file in map.values() {
        let name = file
            .as_str()
            .filter(|n| !n.is_empty() && !n.contains(['/', '\\']) && *n != "..")
            .ok_or_else(|| Error::invalid(&index, "field weight_map: expected plain file names"))?;
        shards.insert(directory.join(name));
    }
    Ok(shards.into_iter().collect())
}
