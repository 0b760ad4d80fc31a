//! `state.json` and the optimizer's state of a checkpoint.

use std::fs;
use std::io::Read;
use std::path::Path;

use burn::optim::ModuleOptimizer;
use retort_data::Cursor;
use serde::{Deserialize, Serialize};

use super::diloco_state::DilocoFiles;
use crate::error::{Error, Result};
use crate::loss_spike::SpikeDetector;

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
    /// What the loss-spike detector has seen; versions up to 0.1 called it `guard`.
    #[serde(default, alias = "guard")]
    pub loss_spike: SpikeDetector,
    /// The validation loss of these weights, in nats a token, if they were evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// The file of the optimizer's state beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Digest>,
    /// The files in `diloco/`; versions up to 0.1 called it `apart`.
    #[serde(default, alias = "apart", skip_serializing_if = "Option::is_none")]
    pub diloco: Option<DilocoFiles>,
    /// The position in the data of the next batch.
    pub cursor: Cursor,
}

/// Size and checksum of a file as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// Its checksum (Castagnoli's polynomial).
    pub crc32c: u32,
}

impl Digest {
    pub(super) fn of(path: &Path) -> Result<Self> {
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

    /// Whether the file at `path` is as it was written. A damaged one may still load, with moments missing or wrong.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
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

/// Reads the `state.json` of `checkpoint`.
///
/// # Errors
/// It cannot be read, or has an unknown key.
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
