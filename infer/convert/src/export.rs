//! From a Hugging Face directory to one GGUF file that this engine and llama.cpp run.
//!
//! In: `config.json`, safetensors, `tokenizer.json`; out: a file with the weights as F32, F16, BF16, Q8_0 or Q4_0, the
//! tokenizer and the chat template inside. Norms and biases stay F32. In a Q4_0 file the embedding table and the output
//! projection are Q8_0: they are looked up or decide the token directly, and lose more from 4 bits than the layers do. A
//! matrix whose rows do not divide into blocks of 32 becomes F16. A type that the checkpoint has already is copied
//! exactly. Names and metadata: llama.cpp's `convert_hf_to_gguf.py`. With [`Layout::Rows16`] the file is the one, byte for
//! byte, that [`pack`](crate::pack::pack) makes of the plain one. For other types, calibration and rotations see
//! [`quantize`](crate::quantize).

use std::path::Path;

use crate::progress::{Converted, Progress};
use crate::quantize::{Recipe, convert};
use crate::source::CheckpointSource;
use retort_engine::decoder::{EngineSettings, KvType};
use retort_format::gguf::panels::Layout;
use retort_format::{Error, GgmlType, Result};

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
) -> Result<Converted> {
    export_as(dir, out, quant, Layout::Plain, progress)
}

/// [`export`] in the float type that holds every tensor of the checkpoint as it is.
///
/// # Errors
///
/// As of [`export_as`].
pub fn export_exactly(dir: &Path, out: &Path, progress: impl FnMut(Progress)) -> Result<Converted> {
    let source = CheckpointSource::open(dir)?;
    let quant = source.common_type();
    write(source, out, quant, Layout::Plain, progress)
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
    progress: impl FnMut(Progress),
) -> Result<Converted> {
    use GgmlType::{BF16, F16, F32, Q4_0, Q8_0};
    if !matches!(quant, F32 | F16 | BF16 | Q8_0 | Q4_0) {
        let problem =
            format!("cannot export to {quant}; f32, f16, bf16, q8_0 and q4_0 are possible");
        return Err(Error::Argument(problem));
    }
    write(CheckpointSource::open(dir)?, out, quant, layout, progress)
}

fn write(
    source: CheckpointSource,
    out: &Path,
    quant: GgmlType,
    layout: Layout,
    progress: impl FnMut(Progress),
) -> Result<Converted> {
    let recipe = Recipe::new(quant)?.with_layout(layout);
    let settings = EngineSettings::new(None, false, KvType::F32)?;
    convert(Box::new(source), out, &recipe, None, settings, progress)
}
