//! From a GGUF file or a Hugging Face directory to a GGUF file, in the types that a recipe gives its tensors.
//!
//! In: a model in any type that is read, best a float one; out: the same metadata and tensors, each in the type that
//! the [`Recipe`] gives it: rounded as llama.cpp rounds or with scales searched or, calibrated, with errors passed on
//! ([`crate::calibrate`]); before that the model may be rotated ([`Rotation`]). Weights are read as they lie
//! ([`crate::source`]); the file appears under its name when it is complete.

mod budget;
mod calibrated;
mod recipe;
mod resume;

pub use crate::source::Rotation;
pub use recipe::{Recipe, TYPES};

use std::path::Path;

use crate::calibrate::CalibrationSettings;
use crate::progress::{Converted, Progress};
use crate::source::{self, RotatedSource, SourceTensor, WeightSource};
use budget::Choice;
use recipe::Rounding;
use retort_engine::decoder::EngineSettings;
use retort_format::gguf::names::{HEAD, ROPE_DIVISORS};
use retort_format::gguf::panels::{Layout, LayoutWriter, NOTHING_TO_PACK};
use retort_format::{Error, GgmlType, Result, quant};
use retort_kernels::pool::Pool;

/// About how many weights are converted at once.
const BLOCK_WEIGHTS: usize = 1 << 20;

/// The texts that a model is calibrated on.
pub struct Texts<'t> {
    /// Documents, as long as there are some.
    pub documents: &'t mut dyn Iterator<Item = Result<String>>,
    /// How many tokens are taken of them, about.
    pub tokens: usize,
    /// What is done with them.
    pub settings: CalibrationSettings,
}

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
    if let Some(rotation) = recipe.rotation() {
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
    metadata.set("general.file_type", file_type(recipe.quant()));
    metadata.set("general.quantization_version", 2u32);
    let weights = source
        .tensors()
        .iter()
        .filter(|tensor| tensor.name != ROPE_DIVISORS);
    let parameters: u64 = weights.map(SourceTensor::elements).sum();
    let mut file = File {
        source,
        pool,
        types: &types,
        rounding: recipe.rounding(),
        layout: recipe.layout(),
        writer: LayoutWriter::new(out, &metadata, recipe.layout())?,
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

/// Bytes of a tensor in `ty`, which its rows divide into.
fn size(tensor: &SourceTensor, ty: GgmlType) -> u64 {
    tensor.elements() / ty.block_size() as u64 * ty.bytes_per_block() as u64
}

/// The type of every tensor, in the source's order.
fn types(source: &dyn WeightSource, recipe: &Recipe, pool: &Pool) -> Result<Vec<GgmlType>> {
    let tensors = source.tensors();
    let mut types: Vec<_> = tensors.iter().map(|tensor| recipe.ty(tensor)).collect();
    let Some(bits) = recipe.budget() else {
        return Ok(types);
    };
    let all: u64 = tensors.iter().map(SourceTensor::elements).sum();
    let least: u64 = tensors
        .iter()
        .zip(&types)
        .map(|(tensor, ty)| size(tensor, *ty))
        .sum();
    let budget = (bits * all as f64 / 8.0) as u64;
    if least > budget {
        return Err(Error::Argument(format!(
            "--bits-per-weight {bits}: {} is the least with --quant {}",
            (least as f64 * 8000.0 / all as f64).ceil() / 1000.0,
            recipe.quant().name().to_lowercase()
        )));
    }
    let mut choices = Vec::new();
    for (index, (tensor, &ty)) in tensors.iter().zip(&types).enumerate() {
        let mut options = vec![(ty, size(tensor, ty), 0.0)];
        if tensor.is_matrix() && !recipe.names(&tensor.name) {
            let larger = [GgmlType::Q4_1, GgmlType::Q8_0, GgmlType::F16];
            let fits = |ty: &GgmlType| tensor.dims[0].is_multiple_of(ty.block_size() as u64);
            options.extend(
                (larger.into_iter().filter(fits))
                    .map(|larger| (larger, size(tensor, larger), 0.0))
                    .filter(|(_, bytes, _)| *bytes > size(tensor, ty)),
            );
        }
        if options.len() > 1 {
            for (ty, _, error) in &mut options {
                *error = lost(source, index, *ty, recipe.rounding(), pool)?;
            }
        }
        choices.push(Choice { options, chosen: 0 });
    }
    budget::spend(&mut choices, budget);
    for (ty, choice) in types.iter_mut().zip(choices) {
        *ty = choice.options[choice.chosen].0;
    }
    Ok(types)
}

/// The squared error of tensor number `tensor` in `ty` over its weights' mean square.
fn lost(
    source: &dyn WeightSource,
    tensor: usize,
    ty: GgmlType,
    rounding: Rounding,
    pool: &Pool,
) -> Result<f64> {
    let (mut error, mut square, mut n) = (0.0, 0.0, 0u64);
    each_block(source, tensor, ty, rounding, pool, |weights, bytes| {
        let mut decoded = vec![0.0; weights.len()];
        quant::dequantize_row(ty, bytes, &mut decoded)?;
        for (w, d) in weights.iter().zip(decoded) {
            error += f64::from(w - d).powi(2);
            square += f64::from(*w).powi(2);
        }
        n += weights.len() as u64;
        Ok(())
    })?;
    Ok(if square > 0.0 {
        error / square * n as f64
    } else {
        0.0
    })
}

/// Encodes tensor number `tensor` a few rows at a time, handing on the weights and their bytes.
fn each_block(
    source: &dyn WeightSource,
    tensor: usize,
    ty: GgmlType,
    rounding: Rounding,
    pool: &Pool,
    mut visit: impl FnMut(&[f32], &[u8]) -> Result<()>,
) -> Result<()> {
    let (cols, rows) = source.tensors()[tensor].shape();
    let step = (BLOCK_WEIGHTS / cols).max(1);
    let mut weights = Vec::new();
    for first in (0..rows).step_by(step) {
        source.rows(tensor, first..(first + step).min(rows), &mut weights)?;
        if weights.iter().any(|weight| !weight.is_finite()) || !quant::fits(ty, &weights) {
            let problem = format!(
                "it holds weights that {ty} cannot; choose bf16 or f32, with --tensor for it alone, or check the file"
            );
            let path = source.metadata().path();
            return Err(Error::tensor(path, source.label(tensor), problem));
        }
        let mut encoded: Vec<_> = weights
            .chunks(cols)
            .map(|row| (row, Ok(Vec::new())))
            .collect();
        pool.rows(&mut encoded, 1, 8, |_, part| {
            let mut out = Vec::new();
            part[0].1 = rounding(ty, part[0].0, &mut out).map(|()| out);
        });
        let mut bytes = Vec::new();
        for (_, row) in encoded {
            bytes.extend(row?);
        }
        visit(&weights, &bytes)?;
    }
    Ok(())
}

/// The file being written.
struct File<'a> {
    source: &'a dyn WeightSource,
    pool: &'a Pool,
    /// In the order of the source's tensors.
    types: &'a [GgmlType],
    /// Of what is not calibrated.
    rounding: Rounding,
    layout: Layout,
    writer: LayoutWriter,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl File<'_> {
    /// Declares the tensors, by number, in the order in which they will be written.
    fn declare(&mut self, order: impl Iterator<Item = usize>) -> Result<()> {
        for tensor in order {
            let SourceTensor { name, dims } = &self.source.tensors()[tensor];
            self.writer.declare(name, dims, self.types[tensor])?;
        }
        if self.layout == Layout::Rows16 && self.writer.packed() == 0 {
            let problem = format!("in the types asked for it {NOTHING_TO_PACK}");
            return Err(Error::unsupported(self.source.metadata().path(), problem));
        }
        Ok(())
    }

    /// Every tensor by itself.
    fn alone(&mut self) -> Result<()> {
        let all = 0..self.types.len();
        self.declare(all.clone())?;
        for tensor in all {
            self.write_alone(tensor)?;
        }
        Ok(())
    }

    fn write_alone(&mut self, tensor: usize) -> Result<()> {
        let (source, pool, ty) = (self.source, self.pool, self.types[tensor]);
        let name = &source.tensors()[tensor].name;
        each_block(source, tensor, ty, self.rounding, pool, |weights, bytes| {
            self.writer.write(name, bytes)?;
            self.told(weights.len() as u64);
            Ok(())
        })
    }

    /// So many weights are written.
    fn told(&mut self, weights: u64) {
        self.done += weights;
        let (done, total) = (self.done, self.total);
        (self.progress)(Progress::Weights { done, total });
    }
}
