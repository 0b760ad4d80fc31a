//! Safetensors in and out, one tensor at a time.
//!
//! Reading maps the file (or the shards an index names) and converts a tensor when it is
//! asked for; writing streams, so a checkpoint never exists twice in memory. Format:
//! 8-byte little-endian header length, JSON header, data (huggingface/safetensors).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};

use crate::error::{Error, Result};
use crate::weights::Weights;

/// The tensors of a checkpoint directory, mapped.
pub struct Mapped {
    directory: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    /// Tensor name → index into `files`.
    names: BTreeMap<String, usize>,
    taken: BTreeSet<String>,
    problems: Vec<String>,
}

impl Mapped {
    /// Maps `model.safetensors`, or the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// A file that is missing, cut, or not safetensors.
    pub fn open(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut names = BTreeMap::new();
        for path in shard_paths(directory)? {
            let file = File::open(&path).map_err(Error::io(&path))?;
            let map = map(&file).map_err(Error::io(&path))?;
            let tensors = SafeTensors::deserialize(&map).map_err(|e| {
                Error::invalid(&path, format!("not a complete safetensors file: {e}"))
            })?;
            for name in tensors.names() {
                names.insert(name.to_string(), files.len());
            }
            files.push((path, map));
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
            names,
            taken: BTreeSet::new(),
            problems: Vec::new(),
        })
    }

    /// Whether the checkpoint holds tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Answers for everything asked for: all missing, misshapen and never-asked tensors.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every problem.
    pub fn finish(mut self) -> Result<()> {
        for name in self.names.keys() {
            // Old checkpoints carry the rotary frequencies as a buffer.
            if !self.taken.contains(name) && !name.ends_with("rotary_emb.inv_freq") {
                self.problems
                    .push(format!("{name} is not part of the model"));
            }
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors {
            path: self.directory,
            problems: self.problems,
        })
    }

    fn read(&self, name: &str, shape: &[usize]) -> std::result::Result<Vec<f32>, String> {
        let index = *self
            .names
            .get(name)
            .ok_or_else(|| format!("{name} is missing"))?;
        let tensors = SafeTensors::deserialize(&self.files[index].1).map_err(|e| e.to_string())?;
        let view = tensors.tensor(name).map_err(|e| e.to_string())?;
        if view.shape() != shape {
            return Err(format!("{name} is {:?}, expected {shape:?}", view.shape()));
        }
        let bytes = view.data();
        match view.dtype() {
            Dtype::F32 => Ok(bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect()),
            Dtype::BF16 => Ok(bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32())
                .collect()),
            Dtype::F16 => Ok(bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect()),
            other => Err(format!(
                "{name} has type {other:?}, expected F32, F16 or BF16"
            )),
        }
    }
}

impl Weights for Mapped {
    fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.taken.insert(name.to_owned());
        self.read(name, shape).unwrap_or_else(|problem| {
            self.problems.push(problem);
            vec![0.0; shape.iter().product()]
        })
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only; a checkpoint is written aside and renamed, so no
    // retort process changes one in place. Another program that truncates it while it is
    // read is outside what any mapping reader can guard against.
    unsafe { Mmap::map(file) }
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
            .filter(|n| !n.contains(['/', '\\']) && *n != "..")
            .ok_or_else(|| Error::invalid(&index, "field weight_map: expected plain file names"))?;
        shards.insert(directory.join(name));
    }
    Ok(shards.into_iter().collect())
}

/// A tensor of f32 values to be written.
struct F32Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl View for F32Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
            .into()
    }
    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// Writes `tensors` (name, shape, values) as one safetensors file, marked as PyTorch's.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Result<()> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let views = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, F32Tensor { shape, values }));
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|e| Error::invalid(path, format!("cannot be written: {e}")))
}
