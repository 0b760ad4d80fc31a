//! From a GGUF file or a Hugging Face directory to a GGUF file, in the types that a recipe gives its tensors.
//!
//! In: a model in any type that is read, best a float one; out: the same metadata and tensors, each in the type that
//! the [`Recipe`] gives it: rounded as llama.cpp rounds or with scales searched or, calibrated, with errors passed on
//! ([`crate::calibrate`]); before that the model may be rotated ([`Rotation`]). Weights are read as they lie
//! ([`crate::source`]); the file appears under its name when it is complete.

mod budget;
mod calibrated;
mod encode;
mod file;
mod recipe;
mod resume;
mod types;

pub use crate::source::Rotation;
pub use calibrated::Texts;
pub use recipe::{Recipe, TYPES};

use std::path::Path;

use crate::progress::{Converted, Progress};
use crate::source::{self, RotatedSource, SourceTensor, WeightSource};
use file::OutputFile;
use retort_engine::decoder::EngineSettings;
use retort_format::gguf::names::{HEAD, ROPE_DIVISORS};
use retort_format::gguf::panels::LayoutWriter;
use retort_format::{Error, GgmlType, Result};
use types::{size, types};

/// Writes the model at `parent` to `out` as `recipe` says, calibrated on `texts` where they are given.
///
/// # Errors
///
/// [`Error::Unsupported`] for a model that the engine does not run, that is packed or that cannot be rotated,
/// [`Error::Argument`] for a recipe that does not fit the model and texts that are too short; errors of reading and
/// writing. Nothing is left at `out` then.
pub fn quantize(
    parent: &Path,
    out: &Path,
    recipe: &Recipe,
    texts: Option<Texts>,
    settings: EngineSettings,
    progress: impl FnMut(Progress),
) -> Result<Converted> {
    let source = source::open(parent, &settings)?;
    convert(source, out, recipe, texts, settings, progress)
}

/// [`quantize`] of an open model.
///
/// # Errors
///
/// As of [`quantize`].
pub fn convert(
    mut source: Box<dyn WeightSource>,
    out: &Path,
    recipe: &Recipe,
    texts: Option<Texts>,
    settings: EngineSettings,
    mut progress: impl FnMut(Progress),
) -> Result<Converted> {
    let pool = &settings.pool;
    if let Some(rotation) = recipe.rotation {
        let rotated = RotatedSource::new(source, rotation, pool.clone())?;
        if rotated.unties() {
            progress(Progress::Notice(format!(
                "the head is tied to the embedding table; rotated, it is a matrix of its own, {HEAD}, and the file \
                 larger by it"
            )));
        }
        source = Box::new(rotated);
    }
    let source = &*source;
    recipe.check(source.tensors())?;
    let types = types(source, recipe, pool)?;
    for (tensor, ty) in source.tensors().iter().zip(&types) {
        if *ty == GgmlType::F16 && recipe.wanted(tensor) != GgmlType::F16 {
            progress(Progress::Notice(format!(
                "{}: its rows are no multiple of 32 weights; stored as F16",
                tensor.name
            )));
        }
    }
    let mut metadata = source.metadata().clone();
    metadata.set("general.file_type", file_type(recipe.quant));
    metadata.set("general.quantization_version", 2u32);
    let weights = source
        .tensors()
        .iter()
        .filter(|tensor| tensor.name != ROPE_DIVISORS);
    let parameters: u64 = weights.map(SourceTensor::elements).sum();
    let mut file = OutputFile {
        source,
        pool,
        types: &types,
        rounding: recipe.rounding(),
        layout: recipe.layout,
        writer: LayoutWriter::new(out, &metadata, recipe.layout)?,
        done: 0,
        total: source.tensors().iter().map(SourceTensor::elements).sum(),
        progress: &mut progress,
    };
    let kept = match texts {
        Some(texts) => Some(file.calibrated(texts, out)?),
        None => {
            file.alone()?;
            None
        }
    };
    file.writer.finish()?;
    if let Some(kept) = kept {
        kept.remove()?;
    }
    let bytes = std::fs::metadata(out).map_err(Error::io(out))?;
    let stored = source.tensors().iter().zip(&types);
    let stored: u64 = stored.map(|(tensor, ty)| size(tensor, *ty)).sum();
    Ok(Converted {
        parameters,
        tensors: types.len(),
        bytes: bytes.len(),
        bits_per_weight: stored as f64 * 8.0 / file.total as f64,
    })
}

/// llama.cpp's number for a file of mostly this type.
fn file_type(ty: GgmlType) -> u32 {
    match ty {
        GgmlType::F16 => 1,
        GgmlType::Q4_0 => 2,
        GgmlType::Q4_1 => 3,
        GgmlType::Q8_0 => 7,
        GgmlType::BF16 => 32,
        _ => 0,
    }
}
