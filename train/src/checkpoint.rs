//! Checkpoints: `checkpoints/step-N/`, a Hugging Face directory (config, safetensors,
//! tokenizer) with the trainer's state beside it (`optimizer.bpk`, `state.json`).
//!
//! Written aside, synced, renamed; `state.json` is written last and marks completeness,
//! so a directory without it is not a checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::ModuleOptimizer;
use retort_data::{Cursor, Tokenizer};
use retort_model::{Decoder, LoraConfig, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

/// The trainer's state beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Updates done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds trained, over all resumptions.
    pub seconds: f64,
    /// The next batch, and the data that it is of.
    pub cursor: Cursor,
}

/// The complete checkpoints of a run directory, by step.
///
/// # Errors
/// The directory exists but cannot be read.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let directory = run.join("checkpoints");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).map_err(Error::io(&directory))? {
        let path = entry.map_err(Error::io(&directory))?.path();
        let step = path
            .file_name()
            .and_then(|n| n.to_str()?.strip_prefix("step-")?.parse().ok());
        if let Some(step) = step
            && path.join("state.json").exists()
        {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest complete checkpoint of a run directory.
///
/// # Errors
/// As [`list`].
pub fn latest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(list(run)?.pop().map(|(_, path)| path))
}

/// Everything that a checkpoint holds.
pub struct Contents<'a> {
    pub config: &'a ModelConfig,
    pub model: &'a Decoder,
    /// The adapters of the model, and the directory of the weights they are beside.
    pub adapters: Option<(&'a LoraConfig, &'a Path)>,
    pub tokenizer: &'a Tokenizer,
    pub optimizer: &'a ModuleOptimizer,
    pub state: &'a State,
}

/// Writes a checkpoint and removes all but the newest `keep`.
pub fn save(run: &Path, contents: &Contents<'_>, keep: usize) -> Result<PathBuf> {
    let parent = run.join("checkpoints");
    let name = format!("step-{}", contents.state.step);
    let (aside, path) = (parent.join(format!(".{name}.tmp")), parent.join(name));
    if path.join("state.json").exists() {
        return Ok(path);
    }
    remove_if_there(&aside)?;
    remove_if_there(&path)?;
    fs::create_dir_all(&aside).map_err(Error::io(&aside))?;
    retort_model::save(&aside, contents.config, contents.model)?;
    if let Some((lora, base)) = contents.adapters {
        retort_model::save_adapters(&aside, contents.model, lora, &base.to_string_lossy())?;
    }
    contents.tokenizer.save(&aside)?;
    let optimizer = aside.join("optimizer.bpk");
    contents
        .optimizer
        .save(&optimizer)
        .map_err(|e| Error::invalid(&optimizer, format!("cannot be written: {e}")))?;
    files::sync_all(&aside)?;
    let state = serde_json::to_vec_pretty(contents.state).expect("the state serializes");
    files::write_atomic(&aside.join("state.json"), &state)?;
    fs::rename(&aside, &path).map_err(Error::io(&path))?;
    files::sync_directory(&parent)?;
    let all = list(run)?;
    for (_, old) in &all[..all.len().saturating_sub(keep)] {
        // The mark goes first: a removal cut short leaves no checkpoint that looks whole.
        let mark = old.join("state.json");
        fs::remove_file(&mark).map_err(Error::io(&mark))?;
        remove_if_there(old)?;
    }
    Ok(path)
}

/// Reads `checkpoint`'s state.
pub fn load_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join("state.json");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|e| Error::invalid(&path, e))
}

/// Puts the moments that `checkpoint` holds into `optimizer`.
pub fn load_optimizer(checkpoint: &Path, optimizer: ModuleOptimizer) -> Result<ModuleOptimizer> {
    let path = checkpoint.join("optimizer.bpk");
    optimizer
        .load(&path)
        .map_err(|e| Error::invalid(&path, format!("cannot be read: {e}")))
}

fn remove_if_there(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(directory)(e)),
        _ => Ok(()),
    }
}
