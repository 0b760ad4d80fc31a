//! The complete checkpoints of a run directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::state::load_state;
use crate::error::{Error, Result};

/// The directory of the averaged weights within a checkpoint.
pub const EMA: &str = "ema";

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

/// The directory of the model at `path`: a run directory's newest complete checkpoint, else `path`
/// itself.
///
/// # Errors
/// As [`list`].
pub fn model_directory(path: &Path) -> Result<PathBuf> {
    Ok(latest(path)?.unwrap_or(path.to_owned()))
}

/// The complete checkpoint of a run directory with the lowest validation loss, and that loss;
/// the later of equals.
///
/// # Errors
/// As [`list`]; a checkpoint's `state.json` cannot be read.
pub fn best(run: &Path) -> Result<Option<(PathBuf, f64)>> {
    let mut best: Option<(PathBuf, f64)> = None;
    for (_, path) in list(run)? {
        let loss = load_state(&path)?.validation_loss;
        if let Some(loss) = loss
            && best.as_ref().is_none_or(|(_, least)| loss <= *least)
        {
            best = Some((path, loss));
        }
    }
    Ok(best)
}

/// Where a checkpoint of `run` after `step` steps is.
pub fn path(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step}"))
}
