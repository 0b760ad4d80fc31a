//! `state.json` and the optimizer's state of a checkpoint.

use std::fs;
use std::path::Path;

use burn::optim::ModuleOptimizer;
use retort_data::Cursor;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::diloco_state::DilocoFiles;
use crate::error::{Error, Result};
use crate::loss_spike::SpikeDetector;

/// The trainer's state beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
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

/// Reads the `state.json` of `checkpoint`.
///
/// # Errors
/// It cannot be read, or has an unknown key.
pub fn load_state(checkpoint: &Path) -> Result<TrainerState> {
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
    state: &TrainerState,
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
