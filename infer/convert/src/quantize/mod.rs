//! From one GGUF file, or a Hugging Face directory, to another GGUF file in fewer bits.
//!
//! In: a model in any type that is read, best a float one; out: the same metadata and tensors, each in the type that
//! the [`Recipe`] gives it: rounded as llama.cpp rounds or with scales searched or, calibrated, errors passed on as well
//! ([`crate::calibrate`]); before that the model may be turned ([`Rotation`]). Tensors stream; the file appears under its name when it is complete.

mod budget;
mod calibrated;
mod hadamard;
mod recipe;
mod resume;
mod rotate;

pub use recipe::{Recipe, TYPES};
pub use rotate::Rotation;

use std::path::{Path, PathBuf};

use crate::{calibrate, export};
use budget::Choice;
use recipe::{Rounding, is_matrix};
use retort_engine::decoder::{Engine, Settings};
use retort_engine::tokenizer::Tokenizer;
use retort_format::gguf::panels::refuse_packed;
use retort_format::gguf::{Gguf, TensorView, Writer};
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
    pub settings: calibrate::Settings,
}

/// What quantization tells its caller on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Something the user should know.
    Notice(String),
    /// Weights done and weights in all.
    Weights(u64, u64),
}

/// What has been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Weights in the file.
    pub parameters: u64,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Bits of all tensors over their weights.
    pub bits_per_weight: f64,
}

/// Writes the model at `parent` to `out` as `recipe` says, calibrated on `texts` where they are given.
///
/// # Errors
///
/// [`Error::Unsupported`] for a model that the engine does not run, that is packed or that cannot be turned, [`Error::Argument`] for a recipe
/// that does not fit the model and texts that are too short; errors of reading and writing. Nothing is left at `out`
/// then.
pub fn quantize(
    parent: &Path,
    out: &Path,
    recipe: &Recipe,
    texts: Option<Texts>,
    settings: Settings,
    mut progress: impl FnMut(Progress),
) -> Result<Quantized> {
    let float = parent.is_dir().then(|| Aside::new(out, "float"));
    if let Some(float) = &float {
        export::export_exactly(parent, &float.0, |told| {
            if let export::Progress::Notice(notice) = told {
                progress(Progress::Notice(notice));
            }
        })?;
    }
    let gguf = Gguf::open(float.as_ref().map_or(parent, |float| &float.0))?;
    refuse_packed(&gguf)?;
    let tokenizer = match texts {
        Some(_) => Some(Tokenizer::from_gguf(&gguf)?),
        None => None,
    };
    let mut engine = Engine::with(gguf, settings)?;
    let rotated = recipe.rotation().map(|_| Aside::new(out, "rotated"));
    if let (Some(rotation), Some(rotated)) = (recipe.rotation(), &rotated) {
        engine = rotate(engine, rotation, rotated, &mut progress)?;
        drop(float);
    }
    let gguf = engine.gguf();
    recipe.check(gguf.tensors())?;
    let types = types(gguf, recipe, engine.pool())?;
    let mut writer = Writer::new(out);
    for (key, value) in gguf.metadata() {
        if key != "general.alignment" {
            writer.set(key, value.clone())?;
        }
    }
    writer.set("general.file_type", file_type(recipe.quant()))?;
    writer.set("general.quantization_version", 2u32)?;
    let mut file = File {
        types: &types,
        rounding: recipe.rounding(),
        writer,
        done: 0,
        total: gguf.tensors().map(|tensor| tensor.n_elements()).sum(),
        progress: &mut progress,
    };
    let kept = match (texts, tokenizer) {
        (Some(texts), Some(tokenizer)) => Some(file.calibrated(&engine, &tokenizer, texts, out)?),
        _ => {
            file.alone(gguf, engine.pool())?;
            None
        }
    };
    let parameters = file.total;
    file.writer.finish()?;
    if let Some(kept) = kept {
        kept.remove()?;
    }
    let bytes = std::fs::metadata(out).map_err(Error::io(out))?;
    let stored: u64 = gguf
        .tensors()
        .zip(&types)
        .map(|(tensor, ty)| size(&tensor, *ty))
        .sum();
    Ok(Quantized {
        parameters,
        bytes: bytes.len(),
        bits_per_weight: stored as f64 * 8.0 / parameters as f64,
    })
}

/// The model of `engine`, turned, in a file that stands beside the one being written.
fn rotate(
    engine: Engine,
    rotation: Rotation,
    file: &Aside,
    progress: &mut impl FnMut(Progress),
) -> Result<Engine> {
    let unties = rotate::unties(&engine, rotation);
    let gguf = engine.gguf();
    let mut numbers: u64 = gguf.tensors().map(|tensor| tensor.n_elements()).sum();
    if unties {
        numbers += gguf.tensor(rotate::TABLE)?.n_elements();
        progress(Progress::Notice(
            "the head is tied to the embedding table; rotated, it is a matrix of its own, \
             output.weight, and the file larger by it"
                .into(),
        ));
    }
    progress(Progress::Notice(format!(
        "the rotated model stands in {} meanwhile: {} bytes in F32",
        file.0.display(),
        4 * numbers
    )));
    rotate::rotate(&engine, rotation, &file.0)?;
    Engine::with(Gguf::open(&file.0)?, engine.settings().clone())
}

/// A file beside another that goes when this does.
struct Aside(PathBuf);

impl Aside {
    /// One for what is written to `out`; nothing is created yet.
    fn new(out: &Path, what: &str) -> Self {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".{}.{what}", std::process::id()));
        Self(name.into())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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
fn size(tensor: &TensorView, ty: GgmlType) -> u64 {
    tensor.n_elements() / ty.block_size() as u64 * ty.bytes_per_block() as u64
}

/// The type of every tensor, in the file's order.
fn types(gguf: &Gguf, recipe: &Recipe, pool: &Pool) -> Result<Vec<GgmlType>> {
    let mut types: Vec<_> = gguf.tensors().map(|tensor| recipe.ty(&tensor)).collect();
    let Some(bits) = recipe.budget() else {
        return Ok(types);
    };
    let all: u64 = gguf.tensors().map(|tensor| tensor.n_elements()).sum();
    let least: u64 = gguf
        .tensors()
        .zip(&types)
        .map(|(tensor, ty)| size(&tensor, *ty))
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
    for (tensor, &ty) in gguf.tensors().zip(&types) {
        let mut options = vec![(ty, size(&tensor, ty), 0.0)];
        if is_matrix(&tensor) && !recipe.names(tensor.name) {
            let larger = [GgmlType::Q4_1, GgmlType::Q8_0, GgmlType::F16];
            let fits = |ty: &GgmlType| tensor.dims[0].is_multiple_of(ty.block_size() as u64);
            options.extend(
                (larger.into_iter().filter(fits))
                    .map(|ty| (ty, size(&tensor, ty), 0.0))
                    .filter(|(_, bytes, _)| *bytes > size(&tensor, types[choices.len()])),
            );
        }
        if options.len() > 1 {
            for (ty, _, error) in &mut options {
                *error = lost(pool, &tensor, *ty, recipe.rounding())?;
            }
            gguf.forget(&tensor);
        }
        choices.push(Choice { options, chosen: 0 });
    }
    budget::spend(&mut choices, budget);
    for (ty, choice) in types.iter_mut().zip(choices) {
        *ty = choice.options[choice.chosen].0;
    }
    Ok(types)
}

/// The squared error of `tensor` in `ty` over its weights' mean square.
fn lost(pool: &Pool, tensor: &TensorView, ty: GgmlType, rounding: Rounding) -> Result<f64> {
    let (mut error, mut square, mut n) = (0.0, 0.0, 0u64);
    each_block(pool, tensor, ty, rounding, |weights, bytes| {
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

/// Encodes `tensor` a few rows at a time, handing on the weights and their bytes.
fn each_block(
    pool: &Pool,
    tensor: &TensorView,
    ty: GgmlType,
    rounding: Rounding,
    mut visit: impl FnMut(&[f32], &[u8]) -> Result<()>,
) -> Result<()> {
    let (cols, rows) = tensor.shape();
    let row_bytes = tensor.data.len() / rows.max(1);
    let step = (BLOCK_WEIGHTS / cols).max(1);
    for data in tensor.data.chunks(step * row_bytes) {
        let mut weights = vec![0.0; data.len() / row_bytes * cols];
        quant::dequantize_row(tensor.ty, data, &mut weights)?;
        if weights.iter().any(|weight| !weight.is_finite()) || !quant::fits(ty, &weights) {
            return Err(Error::Argument(format!(
                "tensor {} holds weights that {ty} cannot; choose another type with --tensor, \
                 or check the file",
                tensor.name
            )));
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
    /// In the order of the parent's tensors.
    types: &'a [GgmlType],
    /// Of what is not calibrated.
    rounding: Rounding,
    writer: Writer,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl File<'_> {
    /// Every tensor by itself.
    fn alone(&mut self, gguf: &Gguf, pool: &Pool) -> Result<()> {
        for (tensor, ty) in gguf.tensors().zip(self.types) {
            self.writer.declare(tensor.name, tensor.dims, *ty)?;
        }
        for (tensor, ty) in gguf.tensors().zip(self.types) {
            self.write_alone(gguf, &tensor, *ty, pool)?;
        }
        Ok(())
    }

    fn write_alone(
        &mut self,
        gguf: &Gguf,
        tensor: &TensorView,
        ty: GgmlType,
        pool: &Pool,
    ) -> Result<()> {
        each_block(pool, tensor, ty, self.rounding, |weights, bytes| {
            self.done += weights.len() as u64;
            self.writer.write(tensor.name, bytes)
        })?;
        gguf.forget(tensor);
        (self.progress)(Progress::Weights(self.done, self.total));
        Ok(())
    }
}
