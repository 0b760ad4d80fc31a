//! Writing a checkpoint, and removing older ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use retort_files::AtomicDirectory;
use retort_format::ModelConfig;
use retort_format::checkpoint::Companions;
use retort_model::{Decoder, LoraConfig};
use retort_tokenizer::Tokenizer;

use super::digest::Digest;
use super::diloco_state::DilocoState;
use super::find::{EMA, best, latest, list, path};
use super::state::TrainerState;
use crate::error::{Error, Result};

/// Everything that a checkpoint holds. Tensors are shared with the trainer, not copied; an
/// update of a shared tensor makes a new one.
pub struct CheckpointContents {
    pub config: ModelConfig,
    /// Without autodiff.
    pub model: Decoder,
    /// The average of the weights, likewise.
    pub ema: Option<Decoder>,
    /// The adapters of the model, and the directory of the weights they are beside.
    pub adapters: Option<(LoraConfig, PathBuf)>,
    pub tokenizer: Arc<Tokenizer>,
    /// Chat template, generation settings and the like.
    pub companions: Arc<Companions>,
    pub optimizer: ModuleOptimizer,
    /// With `[train.diloco]`.
    pub diloco: Option<DilocoState>,
    pub state: TrainerState,
}

/// Which checkpoints are kept when a new one is complete.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The newest so many.
    pub newest: usize,
    /// And the one with the lowest validation loss.
    pub best: bool,
}

/// Writes a checkpoint, and removes the older ones that `keep` does not keep.
///
/// # Errors
/// [`Error::Checkpoint`]: a file cannot be written. What was there before is as it was.
pub fn save(run: &Path, contents: &CheckpointContents, keep: Retention) -> Result<PathBuf> {
    let parent = run.join("checkpoints");
    let step = contents.state.step;
    let path = path(run, step);
    if path.join("state.json").exists() {
        return Ok(path);
    }
    let written = fs::create_dir_all(&parent)
        .map_err(Error::io(&parent))
        .and_then(|()| remove_incomplete(&parent))
        .and_then(|()| AtomicDirectory::create(&path).map_err(Error::io(&path)))
        .and_then(|directory| {
            write(directory.path(), contents)?;
            directory.commit().map_err(Error::io(&path))
        });
    if let Err(source) = written {
        return Err(Error::Checkpoint {
            path,
            last: latest(run).ok().flatten(),
            source: Box::new(source),
        });
    }
    prune(run, keep)?;
    Ok(path)
}

fn write(aside: &Path, contents: &CheckpointContents) -> Result<()> {
    write_model(aside, &contents.model, contents)?;
    retort_model::save_projections(aside, &contents.model)?;
    if let Some(ema) = &contents.ema {
        let directory = aside.join(EMA);
        fs::create_dir(&directory).map_err(Error::io(&directory))?;
        write_model(&directory, ema, contents)?;
    }
    let optimizer = aside.join("optimizer.bpk");
    contents
        .optimizer
        .save(&optimizer)
        .map_err(|e| Error::invalid(&optimizer, format!("cannot be written: {e}")))?;
    let diloco = contents.diloco.as_ref().map(|state| state.write(aside));
    let diloco = diloco.transpose()?;
    retort_files::sync_all(aside).map_err(Error::io(aside))?;
    let state = TrainerState {
        diloco,
        optimizer: Some(Digest::of(&optimizer)?),
        ..contents.state.clone()
    };
    let state = serde_json::to_vec_pretty(&state).expect("the state serializes");
    let path = aside.join("state.json");
    retort_files::write(&path, &state).map_err(Error::io(&path))
}

fn write_model(directory: &Path, model: &Decoder, contents: &CheckpointContents) -> Result<()> {
    retort_model::save(directory, &contents.config, model)?;
    retort_model::save_latent(directory, model)?;
    if let Some((lora, base)) = &contents.adapters {
        retort_model::save_adapters(directory, model, lora, &base.to_string_lossy())?;
    }
    contents.companions.write(directory)?;
    contents.tokenizer.save(directory)?;
    Ok(())
}

fn prune(run: &Path, keep: Retention) -> Result<()> {
    let best = if keep.best {
        best(run)?.map(|(path, _)| path)
    } else {
        None
    };
    let all = list(run)?;
    for (_, old) in &all[..all.len().saturating_sub(keep.newest)] {
        if best.as_ref() == Some(old) {
            continue;
        }
        // The mark goes first: a removal cut short leaves no checkpoint that looks whole.
        let mark = old.join("state.json");
        fs::remove_file(&mark).map_err(Error::io(&mark))?;
        remove_if_there(old)?;
    }
    remove_incomplete(&run.join("checkpoints"))
}

/// Removes what a process killed while writing or removing has left.
fn remove_incomplete(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let ours = |name: &str| {
            let number = name.strip_prefix("step-");
            number.is_some_and(|n| n.parse::<u64>().is_ok())
        };
        let temporary = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
        let temporary = temporary.and_then(|n| n.split('.').next());
        let half_removed = ours(name) && !path.join("state.json").exists();
        if path.is_dir() && (half_removed || temporary.is_some_and(ours)) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(directory)(e)),
        _ => Ok(()),
    }
}
