//! From one GGUF file back to a Hugging Face directory: config.json, generation_config.json,
//! safetensors, tokenizer.json and tokenizer_config.json.
//!
//! In: a file of one of the engine's [architectures](retort_format::Architecture) in any
//! [`GgmlType`]; out: a directory that `transformers` loads without missing or unexpected keys.
//! F32, F16 and BF16 tensors keep their bytes, the others become the F32 that their format stands
//! for, unless a type is asked for. The rows of q and k that a `llama` file has interleaved go
//! back to halves. Tensors stream through a few megabytes of memory. The directory appears under
//! its name only when it is complete and synced. Layout: llama.cpp's `convert_hf_to_gguf.py`, read
//! backwards.

mod config;
mod directory;
mod plan;
mod shard;
mod tokenizer;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::export::Progress;
use directory::Directory;
use plan::{Plan, Planned};
use retort_engine::decoder::Config;
use retort_engine::tokenizer::{Tokenizer, Vocabulary};
use retort_format::gguf::Gguf;
use retort_format::gguf::panels::refuse_packed;
use retort_format::{Error, GgmlType, Result, quant};
use shard::Shard;

/// About how many weights are converted at once.
const BLOCK_WEIGHTS: usize = 1 << 18;

/// How a directory is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// F32, F16 or BF16 for all tensors; `None` keeps these three as they are and makes F32 of
    /// all others, so that nothing is lost.
    pub dtype: Option<GgmlType>,
    /// Weights are cut into files of at most so many bytes (a larger tensor has a file of its own).
    pub max_shard_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dtype: None,
            max_shard_bytes: 5_000_000_000,
        }
    }
}

/// What has been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Weights in the directory.
    pub parameters: u64,
    /// Tensors in the directory.
    pub tensors: usize,
    /// The number of safetensors files.
    pub shards: usize,
    /// The bytes of all tensors.
    pub bytes: u64,
}

/// Writes the model in the GGUF file `file` to the directory `out`, which must not exist yet or
/// be empty.
pub fn import(
    file: &Path,
    out: &Path,
    settings: &Settings,
    mut progress: impl FnMut(Progress),
) -> Result<Imported> {
    let target = Directory::new(out)?;
    let gguf = Gguf::open(file)?;
    refuse_packed(&gguf)?;
    let config = Config::from_gguf(&gguf)?;
    let vocabulary = Vocabulary::from_gguf(&gguf)?;
    let plan = Plan::new(&gguf, &config, settings)?;
    let model = config::Model {
        gguf: &gguf,
        config: &config,
        vocabulary: &vocabulary,
        plan: &plan,
    };
    let config_json = model.config()?;
    let generation_json = model.generation();
    let (tokenizer_json, tokenizer_config_json) = tokenizer::files(&gguf, &config, &vocabulary)?;
    // What the engine could not tokenize with, the directory's readers could not either.
    Tokenizer::new(vocabulary).map_err(|problem| Error::tokenizer(file, problem))?;

    let directory = target.create()?;
    directory.write_json("config.json", &config_json)?;
    directory.write_json("generation_config.json", &generation_json)?;
    directory.write_json("tokenizer.json", &tokenizer_json)?;
    directory.write_json("tokenizer_config.json", &tokenizer_config_json)?;
    let total = plan.parameters();
    let mut done = 0;
    let mut source = Source::open(file)?;
    for (index, tensors) in plan.shards().enumerate() {
        let mut shard = Shard::create(&directory.path(&plan.shard_name(index)), tensors)?;
        for planned in shard::in_file_order(tensors) {
            copy_tensor(planned, &mut source, &mut shard, |weights| {
                done += weights;
                progress(Progress::Weights { done, total });
            })?;
        }
        shard.finish()?;
    }
    if let Some(index) = plan.index() {
        directory.write_json("model.safetensors.index.json", &index)?;
    }
    directory.finish()?;
    Ok(Imported {
        parameters: total,
        tensors: plan.n_tensors(),
        shards: plan.shards().len(),
        bytes: plan.bytes(),
    })
}

/// The GGUF file, read where it lies: the pages of a mapped file would count as resident memory.
struct Source<'p> {
    path: &'p Path,
    file: File,
}

impl<'p> Source<'p> {
    fn open(path: &'p Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Self { path, file })
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(Error::io(self.path))
    }
}

/// Converts one tensor, block by block, calling `written` with the weights of each block.
fn copy_tensor(
    planned: &Planned,
    source: &mut Source<'_>,
    shard: &mut Shard,
    mut written: impl FnMut(u64),
) -> Result<()> {
    let entry = &planned.entry;
    let step = match entry.interleaved {
        Some(head_dim) => head_dim,
        None => (BLOCK_WEIGHTS / entry.cols).max(1),
    };
    let (mut encoded, mut weights, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    while first < entry.rows {
        let rows = step.min(entry.rows - first);
        encoded.resize(rows * planned.source_row_bytes, 0);
        weights.resize(rows * entry.cols, 0.0);
        source.read(
            planned.offset + (first * planned.source_row_bytes) as u64,
            &mut encoded,
        )?;
        quant::dequantize_row(planned.source_ty, &encoded, &mut weights)?;
        if weights.iter().any(|weight| !weight.is_finite()) {
            let problem = "it holds NaN or infinite weights; the file is damaged or not usable";
            return Err(Error::tensor(source.path, &entry.gguf, problem));
        }
        if !quant::fits(planned.ty, &weights) {
            let problem = format!("it holds weights that {} cannot; choose f32", planned.ty);
            return Err(Error::tensor(source.path, &entry.gguf, problem));
        }
        bytes.clear();
        for row in 0..rows {
            let from = match entry.interleaved {
                Some(head_dim) => row % (head_dim / 2) * 2 + row / (head_dim / 2),
                None => row,
            };
            let row = &weights[from * entry.cols..][..entry.cols];
            quant::quantize_row(planned.ty, row, &mut bytes)?;
        }
        shard.write(&bytes)?;
        written((rows * entry.cols) as u64);
        first += rows;
    }
    Ok(())
}
