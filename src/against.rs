//! `retort eval MODEL --against PARENT`: how far a quantized model is from the one it was made of, on a text.
//!
//! Both run through the engine (`retort_engine::divergence`); a directory is exported exactly first, to a file beside the
//! model that is removed afterwards.

use std::path::{Path, PathBuf};

use anyhow::Context;
use retort_convert::{Progress, export};
use retort_engine::Model;
use retort_engine::decoder::Settings;
use retort_engine::divergence::{Divergence, divergence};

use crate::progress;

/// What is compared, and on what.
pub struct Comparison<'a> {
    /// The model that was quantized.
    pub model: &'a Path,
    /// What it was made of.
    pub parent: &'a Path,
    /// A UTF-8 file.
    pub text: &'a Path,
    /// Tokens in a window.
    pub context: usize,
    /// Windows that are scored, all if there is no number.
    pub windows: Option<usize>,
}

/// The figures of a comparison.
pub fn compare(comparison: &Comparison, settings: Settings) -> anyhow::Result<Divergence> {
    let text = std::fs::read(comparison.text)
        .with_context(|| format!("{}: cannot read it", comparison.text.display()))?;
    // A file cut at a byte count may end inside a character.
    let text = String::from_utf8_lossy(&text);
    let model = Exported::new(comparison.model, comparison.model)?;
    let parent = Exported::new(comparison.parent, comparison.model)?;
    let open = |file: &Exported| Model::open_with(&file.path, settings.clone());
    let (parent, models) = (open(&parent)?, [open(&model)?]);
    let bar = progress::bar("windows", 0);
    let moved = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let (context, windows) = (comparison.context, comparison.windows);
    let mut figures = divergence(&parent, &models, &text, context, windows, moved)?;
    bar.finish_and_clear();
    figures.pop().context("one model has one set of figures")
}

/// A file of the engine: the one named, or an exact export of the directory that is named, removed with this.
struct Exported {
    path: PathBuf,
    is_aside: bool,
}

impl Exported {
    /// What is exported stands beside `beside`.
    fn new(model: &Path, beside: &Path) -> anyhow::Result<Self> {
        if !model.is_dir() {
            let path = model.to_owned();
            return Ok(Self {
                path,
                is_aside: false,
            });
        }
        let checkpoint = retort_train::latest(model)?.unwrap_or(model.to_owned());
        let mut name = beside.as_os_str().to_owned();
        let which = if model == beside { "model" } else { "parent" };
        name.push(format!(".{}.{which}.gguf", std::process::id()));
        let exported = Self {
            path: name.into(),
            is_aside: true,
        };
        let told = |told| {
            if let Progress::Notice(text) = told {
                eprintln!("note: {text}");
            }
        };
        export::export_exactly(&checkpoint, &exported.path, told)?;
        Ok(exported)
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        if self.is_aside {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
