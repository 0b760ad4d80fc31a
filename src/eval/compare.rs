//! `retort eval MODEL --against PARENT`: the divergence of a quantized model from its parent on a text.
//!
//! Both run by the engine (`retort_engine::divergence`). A directory is first exported without rounding
//! to a temporary file beside the model.

use std::path::{Path, PathBuf};

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
    let model = ModelFile::new(comparison.model, comparison.model)?;
    let parent = ModelFile::new(comparison.parent, comparison.model)?;
    let open = |file: &ModelFile| Model::open_with(&file.path, settings.clone());
    let (parent, models) = (open(&parent)?, [open(&model)?]);
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

/// A GGUF file: the given one, or a temporary export of the given directory, removed on drop.
struct ModelFile {
    path: PathBuf,
    is_temporary: bool,
}

impl ModelFile {
    /// Exports a directory to a file beside `beside`.
    fn new(model: &Path, beside: &Path) -> anyhow::Result<Self> {
        if !model.is_dir() {
            let path = model.to_owned();
            return Ok(Self {
                path,
                is_temporary: false,
            });
        }
        let checkpoint = retort_train::latest(model)?.unwrap_or(model.to_owned());
        let mut name = beside.as_os_str().to_owned();
        let which = if model == beside { "model" } else { "parent" };
        name.push(format!(".{}.{which}.gguf", std::process::id()));
        let exported = Self {
            path: name.into(),
            is_temporary: true,
        };
        let on_progress = |progress| {
            if let Progress::Notice(text) = progress {
                eprintln!("note: {text}");
            }
        };
        export::export_exactly(&checkpoint, &exported.path, on_progress)?;
        Ok(exported)
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
