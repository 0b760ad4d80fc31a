//! The tensors of a Hugging Face directory, read a few rows at a time.
//!
//! In: `model.safetensors`, or the shards that `model.safetensors.index.json` lists; out: rows of
//! f32 from F32, F16 or BF16 tensors. Headers are parsed by the `safetensors` crate; data is read
//! with positioned reads, so that a checkpoint of any size costs one block of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use retort_format::{Error, GgmlType, Result, quant};

/// A header longer than this is refused: the limit of the `safetensors` crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    shard: usize,
    ty: GgmlType,
    /// Outermost dimension first, as in the checkpoint.
    pub(super) shape: Vec<usize>,
    offset: u64,
}

/// An open checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    dir: PathBuf,
    shards: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Entry>,
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// Opens every shard and reads the headers.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let mut checkpoint = Self {
            dir: dir.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            bytes: Vec::new(),
        };
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() || !index.exists() {
            checkpoint.open_shard(single)?;
            return Ok(checkpoint);
        }
        let weight_map = read_weight_map(&index)?;
        for file in weight_map.values().collect::<BTreeSet<_>>() {
            if Path::new(file).file_name() != Some(file.as_ref()) {
                let problem = format!("weight_map: {file:?} is not a file name");
                return Err(Error::format(&index, problem));
            }
            checkpoint.open_shard(dir.join(file))?;
        }
        if let Some((name, file)) = weight_map
            .iter()
            .find(|(name, _)| !checkpoint.tensors.contains_key(*name))
        {
            let problem = format!("weight_map: {file} does not hold {name}; download it again");
            return Err(Error::format(&index, problem));
        }
        Ok(checkpoint)
    }

    fn open_shard(&mut self, path: PathBuf) -> Result<()> {
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let (metadata, start, size) = read_header(&path, &mut file)?;
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let ty = match info.dtype {
                Dtype::F32 => GgmlType::F32,
                Dtype::F16 => GgmlType::F16,
                Dtype::BF16 => GgmlType::BF16,
                other => {
                    let problem = format!("type {other:?} is not supported (F32, F16, BF16 are)");
                    return Err(Error::tensor(&path, &name, problem));
                }
            };
            let (begin, end) = info.data_offsets;
            let elements = info
                .shape
                .iter()
                .try_fold(1usize, |n, &dim| n.checked_mul(dim));
            let bytes = elements.and_then(|n| ty.row_bytes(n));
            let in_file = u64::try_from(end).is_ok_and(|end| end <= size - start);
            if bytes.is_none() || bytes != end.checked_sub(begin) || !in_file {
                let problem = "its data does not fit the file; download the file again";
                return Err(Error::tensor(&path, &name, problem));
            }
            let entry = Entry {
                shard,
                ty,
                shape: info.shape.clone(),
                offset: start + begin as u64,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::tensor(&path, &name, "it stands in two shards"));
            }
        }
        self.shards.push((path, file));
        Ok(())
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The float type that holds every tensor as it is.
    pub(super) fn common_type(&self) -> GgmlType {
        let mut types = self.tensors.values().map(|entry| entry.ty);
        let first = types.next().unwrap_or(GgmlType::F32);
        match types.all(|ty| ty == first) {
            true => first,
            false => GgmlType::F32,
        }
    }

    /// Every tensor's name, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// The number of tensors.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Reads `rows` rows of `cols` weights from row `first` on into `out` [rows, cols].
    pub(super) fn read_rows(
        &mut self,
        name: &str,
        first: usize,
        rows: usize,
        cols: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(Error::Argument(format!("no tensor {name}")));
        };
        let (path, file) = &mut self.shards[entry.shard];
        let size = entry.ty.bytes_per_block();
        let total: usize = entry.shape.iter().product();
        let range = first
            .checked_add(rows)
            .and_then(|end| end.checked_mul(cols));
        if range.is_none_or(|end| end > total) {
            return Err(Error::tensor(path, name, "rows past its end"));
        }
        self.bytes.resize(rows * cols * size, 0);
        out.resize(rows * cols, 0.0);
        let offset = entry.offset + (first * cols * size) as u64;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut self.bytes))
            .map_err(Error::io(path))?;
        quant::dequantize_row(entry.ty, &self.bytes, out)?;
        if out.iter().any(|weight| !weight.is_finite()) {
            let problem = "it holds NaN or infinite weights; the checkpoint is not usable";
            return Err(Error::tensor(path, name, problem));
        }
        Ok(())
    }
}

/// The header, where the data starts, and the file's size.
fn read_header(path: &Path, file: &mut File) -> Result<(Metadata, u64, u64)> {
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut length = [0; 8];
    if size < 8 {
        return Err(Error::format(path, "too short for a safetensors file"));
    }
    file.read_exact(&mut length).map_err(Error::io(path))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > size - 8 {
        let problem = format!("its header claims {length} bytes: cut short or not safetensors");
        return Err(Error::format(path, problem));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(Error::io(path))?;
    let metadata = serde_json::from_slice(&header)
        .map_err(|error| Error::format(path, format!("safetensors header: {error}")))?;
    Ok((metadata, 8 + length, size))
}

fn read_weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| Error::format(index, error.to_string()))?;
    serde_json::from_value(value["weight_map"].take())
        .map_err(|error| Error::format(index, format!("weight_map: {error}")))
}
