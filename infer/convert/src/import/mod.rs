//! From one GGUF file back to a Hugging Face directory: config.json, generation_config.json,
//! safetensors, tokenizer.json and tokenizer_config.json.
//!
//! In: a file of one of the engine's [architectures](retort_format::Architecture) in any
//! [`GgmlType`](retort_format::GgmlType); out: a directory that `transformers` loads without missing or unexpected keys.
//! F32, F16 and BF16 tensors keep their bytes, the others become the F32 that their format stands
//! for, unless a type is asked for. The rows of q and k that a `llama` file has interleaved go
//! back to halves. Tensors stream through a few megabytes of memory. The directory appears under
//! its name only when it is complete and synced. Layout: llama.cpp's `convert_hf_to_gguf.py`, read
//! backwards.

mod config;
mod plan;
mod settings;
mod tokenizer;

use std::path::Path;

use crate::progress::Progress;
use plan::{ImportPlan, Planned};
use retort_engine::decoder::Config;
use retort_engine::tokenizer::{Tokenizer, Vocabulary};
use retort_files::AtomicDirectory;
use retort_format::checkpoint::{TensorSink, write_json, write_weights};
use retort_format::gguf::panels::refuse_packed;
use retort_format::gguf::{Gguf, TensorView};
use retort_format::{Error, Result, quant};
pub use settings::ImportSettings;

/// About how many weights are converted at once.
const BLOCK_WEIGHTS: usize = 1 << 18;

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
    settings: &ImportSettings,
    mut progress: impl FnMut(Progress),
) -> Result<Imported> {
    AtomicDirectory::check(out).map_err(Error::io(out))?;
    let gguf = Gguf::open(file)?;
    refuse_packed(&gguf)?;
    let config = Config::from_gguf(&gguf)?;
    let vocabulary = Vocabulary::from_gguf(&gguf)?;
    let model = config::model_config(&gguf, &config, &vocabulary)?;
    let plan = ImportPlan::new(&gguf, &model, settings)?;
    let config_json = config::config_json(&model, plan.main_precision(), &vocabulary);
    let generation_json = config::generation_json(&vocabulary);
    let (tokenizer_json, tokenizer_config_json) = tokenizer::files(&gguf, &config, &vocabulary)?;
    // What the engine could not tokenize with, the directory's readers could not either.
    Tokenizer::new(vocabulary).map_err(|problem| Error::tokenizer(file, problem))?;

    let directory = AtomicDirectory::create(out).map_err(Error::io(out))?;
    for (name, json) in [
        ("config.json", &config_json),
        ("generation_config.json", &generation_json),
        ("tokenizer.json", &tokenizer_json),
        ("tokenizer_config.json", &tokenizer_config_json),
    ] {
        write_json(&directory.path().join(name), json)?;
    }
    let headers = plan.headers();
    let total = plan.parameters();
    let mut done = 0;
    let shards = write_weights(
        directory.path(),
        &headers,
        settings.max_shard_bytes,
        |i, sink| {
            copy_tensor(&plan.tensors[i], &gguf, sink, |weights| {
                done += weights;
                progress(Progress::Weights { done, total });
            })
        },
    )?;
    directory.commit().map_err(Error::io(out))?;
    Ok(Imported {
        parameters: total,
        tensors: headers.len(),
        shards,
        bytes: headers.iter().map(|tensor| tensor.bytes()).sum(),
    })
}

/// Converts one tensor, block by block, calling `written` with the weights of each block.
fn copy_tensor(
    planned: &Planned,
    gguf: &Gguf,
    sink: &mut TensorSink<'_>,
    mut written: impl FnMut(u64),
) -> Result<()> {
    let view = gguf.tensor(&planned.gguf_name)?;
    let (cols, all) = match planned.interleaved {
        // A bias has a row for each of its numbers.
        Some(_) if view.dims.len() == 1 => (1, view.n_elements() as usize),
        _ => view.shape(),
    };
    let row_bytes = view.data.len() / all;
    let step = match planned.interleaved {
        Some(head_dim) => head_dim,
        None => (BLOCK_WEIGHTS / cols).max(1),
    };
    let (mut weights, mut bytes) = (Vec::new(), Vec::new());
    for data in view.data.chunks(step * row_bytes) {
        let rows = data.len() / row_bytes;
        weights.resize(rows * cols, 0.0);
        quant::dequantize_row(view.ty, data, &mut weights)?;
        // The pages of a mapped file count as resident memory.
        gguf.forget(&TensorView { data, ..view });
        if weights.iter().any(|weight| !weight.is_finite()) {
            let problem = "it holds NaN or infinite weights; the file is damaged or not usable";
            return Err(Error::tensor(gguf.path(), view.name, problem));
        }
        if !quant::fits(planned.ty, &weights) {
            let problem = format!("it holds weights that {} cannot; choose f32", planned.ty);
            return Err(Error::tensor(gguf.path(), view.name, problem));
        }
        bytes.clear();
        for row in 0..rows {
            let from = match planned.interleaved {
                Some(head_dim) => row % (head_dim / 2) * 2 + row / (head_dim / 2),
                None => row,
            };
            let row = &weights[from * cols..][..cols];
            quant::quantize_row(planned.ty, row, &mut bytes)?;
        }
        sink.write(&bytes)?;
        written((rows * cols) as u64);
    }
    Ok(())
}
