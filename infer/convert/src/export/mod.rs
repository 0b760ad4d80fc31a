//! From a Hugging Face directory to one GGUF file that this engine and llama.cpp run.
//!
//! In: `config.json`, safetensors, `tokenizer.json`; out: a file with the weights as F32, F16, BF16,
//! Q8_0 or Q4_0, the tokenizer and the chat template inside. Norms and biases stay F32. In a Q4_0
//! file the embedding table and the output projection are Q8_0: they are looked up or decide the
//! token directly, and lose more from 4 bits than the layers do. A matrix whose rows do not divide
//! into blocks of 32 becomes F16. A type that the checkpoint has already is copied exactly. Tensors
//! stream through a few megabytes of memory, and the file appears under its name only when it is
//! complete. Names and metadata: llama.cpp's `convert_hf_to_gguf.py`. With [`Layout::Rows16`] the file
//! is the one, byte for byte, that [`pack`](crate::pack::pack) makes of the plain one.

mod checkpoint;
mod config;
mod plan;
mod tokenizer;

use std::path::Path;

use serde_json::Value;

use checkpoint::Checkpoint;
use config::HfConfig;
use plan::{Plan, Planned};
use retort_engine::decoder::{DYNAMIC_NTK, LOGN, TRAINED_LENGTH};
use retort_format::Architecture;
use retort_format::gguf::Writer;
use retort_format::gguf::panels::{LAYOUT, Layout, ROWS16, name_of, take_panels};
use retort_format::gguf::rope_scaling::RopeScaling;
use retort_format::{Error, GgmlType, Result, quant};
use tokenizer::HfTokenizer;

/// About how many weights are converted at once.
const BLOCK_WEIGHTS: usize = 1 << 18;

/// What export tells its caller on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Something the user should know.
    Notice(String),
    /// A part of a tensor has been written.
    Weights {
        /// Weights written so far.
        done: u64,
        /// Weights to be written.
        total: u64,
    },
}

/// What has been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Weights in the file.
    pub parameters: u64,
    /// Tensors in the file.
    pub tensors: usize,
    /// The file's size.
    pub bytes: u64,
}

/// Writes the model in `dir` to `out` at `quant` (F32, F16, BF16, Q8_0 or Q4_0), for every reader of GGUF.
///
/// # Errors
///
/// As of [`export_as`].
pub fn export(
    dir: &Path,
    out: &Path,
    quant: GgmlType,
    progress: impl FnMut(Progress),
) -> Result<Exported> {
    export_as(dir, out, quant, Layout::Plain, progress)
}

/// [`export`] in the float type that holds every tensor of the checkpoint as it is.
///
/// # Errors
///
/// As of [`export_as`].
pub fn export_exactly(dir: &Path, out: &Path, progress: impl FnMut(Progress)) -> Result<Exported> {
    let quant = Checkpoint::open(dir)?.common_type();
    export_as(dir, out, quant, Layout::Plain, progress)
}

/// [`export`] in a given layout.
///
/// # Errors
///
/// [`Error::Argument`] for another `quant`, [`Error::Unsupported`] if `dir` holds no model that a file
/// can be made of, or none that has panels if `layout` asks for them; errors of reading and writing.
/// Nothing is left at `out` then.
pub fn export_as(
    dir: &Path,
    out: &Path,
    quant: GgmlType,
    layout: Layout,
    mut progress: impl FnMut(Progress),
) -> Result<Exported> {
    let file_type: u32 = match quant {
        GgmlType::F32 => 0,
        GgmlType::F16 => 1,
        GgmlType::Q4_0 => 2,
        GgmlType::Q8_0 => 7,
        GgmlType::BF16 => 32,
        other => {
            let problem =
                format!("cannot export to {other}; f32, f16, bf16, q8_0 and q4_0 are possible");
            return Err(Error::Argument(problem));
        }
    };
    let config = HfConfig::read(dir)?;
    let mut checkpoint = Checkpoint::open(dir)?;
    let plan = Plan::new(dir, &config, &checkpoint, quant, layout)?;
    let tokenizer = HfTokenizer::read(dir, config.dimensions.vocab_size)?;
    let mut writer = Writer::new(out);
    write_metadata(&mut writer, dir, &config, file_type)?;
    tokenizer.vocabulary.write(&mut writer)?;
    if let Some(template) = &tokenizer.chat_template {
        writer.set("tokenizer.chat_template", template.as_str())?;
    }
    if layout == Layout::Rows16 {
        writer.set(LAYOUT, ROWS16)?;
    }
    let divisors = config
        .rope_scaling
        .frequency_divisors(config.dimensions.head_dim, config.rope_theta);
    if let Some(divisors) = &divisors {
        let size = divisors.len() as u64;
        writer.declare("rope_freqs.weight", &[size], GgmlType::F32)?;
    }
    for planned in &plan.tensors {
        let name = name_of(&planned.entry.gguf, planned.in_panels);
        writer.declare(&name, &planned.entry.gguf_shape(), planned.ty)?;
    }
    for name in &plan.not_quantized {
        progress(Progress::Notice(format!(
            "{name}: its rows are no multiple of 32 weights; stored as F16"
        )));
    }
    let total = plan
        .tensors
        .iter()
        .map(|planned| planned.entry.weights())
        .sum();
    let mut done = 0;
    if let Some(divisors) = &divisors {
        let mut bytes = Vec::new();
        quant::quantize_row(GgmlType::F32, divisors, &mut bytes)?;
        writer.write("rope_freqs.weight", &bytes)?;
    }
    for planned in &plan.tensors {
        copy_tensor(planned, &mut checkpoint, &mut writer, |weights| {
            done += weights;
            progress(Progress::Weights { done, total });
        })?;
    }
    writer.finish()?;
    let bytes = std::fs::metadata(out).map_err(Error::io(out))?;
    Ok(Exported {
        parameters: total,
        tensors: plan.tensors.len() + usize::from(divisors.is_some()),
        bytes: bytes.len(),
    })
}

/// Converts one tensor, block by block, calling `written` with the weights of each block.
fn copy_tensor(
    planned: &Planned,
    checkpoint: &mut Checkpoint,
    writer: &mut Writer,
    mut written: impl FnMut(u64),
) -> Result<()> {
    let (mut weights, mut bytes, mut panels) = (Vec::new(), Vec::new(), Vec::new());
    let entry = &planned.entry;
    let name = name_of(&entry.gguf, planned.in_panels);
    let step = match entry.interleaved {
        Some(head_dim) => head_dim,
        None => (BLOCK_WEIGHTS / entry.cols).max(1),
    };
    let mut first = 0;
    while first < entry.rows {
        let rows = step.min(entry.rows - first);
        checkpoint.read_rows(&entry.hf, first, rows, entry.cols, &mut weights)?;
        let before = bytes.len();
        for row in 0..rows {
            let source = match entry.interleaved {
                Some(head_dim) => row / 2 + row % 2 * (head_dim / 2),
                None => row,
            };
            let row = &weights[source * entry.cols..][..entry.cols];
            if !quant::fits(planned.ty, row) {
                let problem = "it holds weights that F16 cannot; export to bf16 or f32";
                return Err(Error::tensor(checkpoint.dir(), &entry.hf, problem));
            }
            quant::quantize_row(planned.ty, row, &mut bytes)?;
        }
        if planned.in_panels {
            // what is left of the rows waits for the next ones
            let row_bytes = (bytes.len() - before) / rows;
            take_panels(planned.ty, row_bytes, &mut bytes, &mut panels)?;
            writer.write(&name, &panels)?;
        } else {
            writer.write(&name, &bytes)?;
            bytes.clear();
        }
        written((rows * entry.cols) as u64);
        first += rows;
    }
    Ok(())
}

fn write_metadata(
    writer: &mut Writer,
    dir: &Path,
    config: &HfConfig,
    file_type: u32,
) -> Result<()> {
    let dimensions = &config.dimensions;
    let arch = dimensions.architecture;
    let folder = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = folder.file_name().map(|name| name.to_string_lossy());
    writer.set("general.architecture", arch.name())?;
    writer.set("general.type", "model")?;
    writer.set("general.name", name.as_deref().unwrap_or("model"))?;
    writer.set("general.file_type", file_type)?;
    writer.set("general.quantization_version", 2u32)?;
    let key = |field: &str| format!("{}.{field}", arch.name());
    // Readers of `qwen` files halve it, as Qwen's own code halves config.json's.
    let both_branches = match arch {
        Architecture::Qwen => 2 * dimensions.intermediate_size,
        _ => dimensions.intermediate_size,
    };
    let sizes = [
        ("vocab_size", dimensions.vocab_size),
        ("context_length", config.context_length),
        ("embedding_length", dimensions.hidden_size),
        ("block_count", dimensions.n_layers),
        ("feed_forward_length", both_branches),
        ("attention.head_count", dimensions.n_heads),
        ("attention.head_count_kv", dimensions.n_kv_heads),
        ("attention.key_length", dimensions.head_dim),
        ("attention.value_length", dimensions.head_dim),
        ("rope.dimension_count", dimensions.head_dim),
    ];
    for (field, size) in sizes {
        // HfConfig refuses sizes of 2^32 and more.
        writer.set(&key(field), size as u32)?;
    }
    let eps = config.rms_norm_eps as f32;
    writer.set(&key("attention.layer_norm_rms_epsilon"), eps)?;
    writer.set(&key("rope.freq_base"), config.rope_theta as f32)?;
    match config.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear(factor) => {
            writer.set(&key("rope.scaling.type"), "linear")?;
            writer.set(&key("rope.scaling.factor"), factor as f32)?;
        }
        // The scaling itself is in rope_freqs.weight; only import asks for this.
        RopeScaling::Llama3 {
            original_context, ..
        } => writer.set(&key(TRAINED_LENGTH), original_context as u32)?,
    }
    if let Some(past) = &config.past_trained {
        writer.set(&key(TRAINED_LENGTH), past.trained_length as u32)?;
        writer.set(&key(DYNAMIC_NTK), past.dynamic_ntk)?;
        writer.set(&key(LOGN), past.logn)?;
    }
    Ok(())
}

/// Reads a JSON file.
fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|error| Error::format(path, format!("JSON: {error}")))
}
