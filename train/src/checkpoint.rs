//! Checkpoints: `checkpoints/step-N/`, a Hugging Face directory (config, safetensors,
//! tokenizer) with the trainer's state beside it (`optimizer.bpk`, `state.json`, `latent.safetensors` where
//! weights are rounded before they are used, and `projections.safetensors` where an objective trains
//! matrices beside the model) and, where weights are averaged, the average as
//! another such directory, `ema/`. It does not say how many ranks trained, but for `diloco/`.
//!
//! Written aside, synced, renamed; `state.json` is written last and marks completeness,
//! so a directory without it is not a checkpoint. [`Writer`] does it beside the training.

mod apart;
pub mod moments;
mod writer;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use retort_data::Cursor;
use retort_files::AtomicDirectory;
use retort_format::ModelConfig;
use retort_model::{Decoder, LoraConfig};
use retort_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::guard::Guard;
pub use apart::{Apart, ApartState};
pub use writer::Writer;

/// The average of the weights within a checkpoint.
pub const EMA: &str = "ema";

/// The trainer's state beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds trained, over all resumptions.
    pub seconds: f64,
    /// What the guard against spoilt batches has seen.
    #[serde(default)]
    pub guard: Guard,
    /// The validation loss of these weights, in nats a token, if they were evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// The file of the optimizer's state beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Digest>,
    /// What ranks that train apart have each of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<ApartState>,
    /// The next batch, and the data that it is of.
    pub cursor: Cursor,
}

/// What a file was when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// Its checksum (Castagnoli's polynomial).
    pub crc32c: u32,
}

impl Digest {
    fn of(path: &Path) -> Result<Self> {
        let mut file = fs::File::open(path).map_err(Error::io(path))?;
        let (mut digest, mut part) = (
            Self {
                bytes: 0,
                crc32c: 0,
            },
            vec![0; 1 << 20],
        );
        loop {
            let n = file.read(&mut part).map_err(Error::io(path))?;
            if n == 0 {
                return Ok(digest);
            }
            digest.bytes += n as u64;
            digest.crc32c = crc32c::crc32c_append(digest.crc32c, &part[..n]);
        }
    }

    /// Whether the file at `path` is still what was written. A damaged one may still be read, with moments missing
    /// or wrong.
    fn check(&self, path: &Path) -> Result<()> {
        if Self::of(path)? == *self {
            return Ok(());
        }
        Err(Error::invalid(
            path,
            "is damaged (it is not the file that state.json speaks of): remove this checkpoint's directory to \
             go on from the one before",
        ))
    }
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

/// Everything that a checkpoint holds. Tensors are shared with the trainer, not copied; an
/// update of a shared tensor makes a new one.
pub struct Contents {
    pub config: ModelConfig,
    /// Without autodiff.
    pub model: Decoder,
    /// The average of the weights, likewise.
    pub ema: Option<Decoder>,
    /// The adapters of the model, and the directory of the weights they are beside.
    pub adapters: Option<(LoraConfig, PathBuf)>,
    pub tokenizer: Arc<Tokenizer>,
    pub optimizer: ModuleOptimizer,
    /// Of ranks that train apart.
    pub apart: Option<Apart>,
    pub state: State,
}

/// Which checkpoints stay when a new one is there.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// The newest so many.
    pub newest: usize,
    /// And the one with the lowest validation loss.
    pub best: bool,
}

/// Writes a checkpoint and removes what `keep` does not keep.
///
/// # Errors
/// [`Error::Checkpoint`]: a file cannot be written. What was there before is as it was.
pub fn save(run: &Path, contents: &Contents, keep: Keep) -> Result<PathBuf> {
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

fn write(aside: &Path, contents: &Contents) -> Result<()> {
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
    let apart = contents.apart.as_ref().map(|apart| apart.write(aside));
    let apart = apart.transpose()?;
    retort_files::sync_all(aside).map_err(Error::io(aside))?;
    let state = State {
        apart,
        optimizer: Some(Digest::of(&optimizer)?),
        ..contents.state.clone()
    };
    let state = serde_json::to_vec_pretty(&state).expect("the state serializes");
    let path = aside.join("state.json");
    retort_files::write(&path, &state).map_err(Error::io(&path))
}

fn write_model(directory: &Path, model: &Decoder, contents: &Contents) -> Result<()> {
    retort_model::save(directory, &contents.config, model)?;
    retort_model::save_latent(directory, model)?;
    if let Some((lora, base)) = &contents.adapters {
        retort_model::save_adapters(directory, model, lora, &base.to_string_lossy())?;
    }
    contents.tokenizer.save(directory)?;
    Ok(())
}

fn prune(run: &Path, keep: Keep) -> Result<()> {
    let best = match keep.best {
        true => best(run)?.map(|(path, _)| path),
        false => None,
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

/// Removes what a kill in the middle of writing or removing has left.
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

/// Where a checkpoint of `run` after `step` steps is.
pub fn path(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step}"))
}

/// Reads `checkpoint`'s state.
pub fn load_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join("state.json");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|e| Error::invalid(&path, e))
}

/// Puts the moments that `checkpoint` holds into `optimizer`.
///
/// # Errors
/// The file is not the one that `state`, `checkpoint`'s, speaks of, or cannot be read.
pub fn load_optimizer(
    checkpoint: &Path,
    state: &State,
    optimizer: ModuleOptimizer,
) -> Result<ModuleOptimizer> {
    let path = checkpoint.join("optimizer.bpk");
    if let Some(written) = state.optimizer {
        written.check(&path)?;
    }
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
