//! `retort eval MODEL --against PARENT`: the divergence of a quantized model from its parent on a text.
//!
//! Both run by the engine (`retort_engine::divergence`), which reads GGUF files alone. A directory is
//! first exported without rounding to a temporary file beside the model.

use std::path::Path;

use anyhow::Context;
use retort_convert::{Progress, export};
use retort_engine::Model;
use retort_engine::decoder::EngineSettings;
use retort_engine::divergence::{Divergence, divergence};

use crate::progress;

/// The two models and the text of a comparison.
pub struct Comparison<'a> {
    /// The quantized model.
    pub model: &'a Path,
    /// The model it was quantized from.
    pub parent: &'a Path,
    /// A UTF-8 file.
    pub text: &'a Path,
    /// Tokens in a window.
    pub context: usize,
    /// Most windows; all if `None`.
    pub windows: Option<usize>,
}

/// The divergence of the two models.
pub fn compare(comparison: &Comparison, settings: EngineSettings) -> anyhow::Result<Divergence> {
    let text = std::fs::read(comparison.text)
        .with_context(|| format!("{}: cannot read it", comparison.text.display()))?;
    // A file cut at a byte count may end inside a character.
    let text = String::from_utf8_lossy(&text);
    let model = gguf(comparison.model, comparison.model)?;
    let parent = gguf(comparison.parent, comparison.model)?;
    let open = |file: &Path| Model::open_with(file, settings.clone());
    let (parent, models) = (open((*parent).as_ref())?, [open((*model).as_ref())?]);
    let bar = progress::bar("windows", 0);
    let on_window = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let (context, windows) = (comparison.context, comparison.windows);
    let mut figures = divergence(&parent, &models, &text, context, windows, on_window)?;
    bar.finish_and_clear();
    figures.pop().context("one model has one set of figures")
}

/// The GGUF file of `model`: the given one, or a temporary export of the given directory in that of
/// `beside`, removed on drop.
fn gguf(model: &Path, beside: &Path) -> anyhow::Result<Box<dyn AsRef<Path>>> {
    if !model.is_dir() {
        return Ok(Box::new(model.to_owned()));
    }
    let checkpoint = retort_train::model_directory(model)?;
    let beside = std::path::absolute(beside)?;
    let directory = beside.parent().unwrap_or(&beside);
    let file = tempfile::Builder::new()
        .suffix(".gguf")
        .tempfile_in(directory)
        .with_context(|| directory.display().to_string())?;
    let path = file.into_temp_path();
    let on_progress = |progress| {
        if let Progress::Notice(text) = progress {
            eprintln!("note: {text}");
        }
    };
    export::export_exactly(&checkpoint, &path, on_progress)?;
    Ok(Box::new(path))
}
