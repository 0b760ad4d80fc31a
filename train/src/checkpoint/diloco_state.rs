//! `diloco/` in a checkpoint: `momentum.bin` (the outer momentum, f32, little-endian, in the model's order) and
//! `rank-K.bpk` (the optimizer of rank K; rank 0's is the checkpoint's own).

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::error::{Error, Result};
use crate::loss_spike::SpikeDetector;

const DIRECTORY: &str = "diloco";

/// What DiLoCo's ranks have beside the weights that they share.
pub struct DilocoState {
    /// The outer momentum.
    pub momentum: Vec<u8>,
    /// The optimizer's state of each rank from 1.
    pub optimizers: Vec<Vec<u8>>,
    /// The loss-spike detector of each rank from 0.
    pub loss_spikes: Vec<SpikeDetector>,
}

/// What `state.json` says of it. Versions up to 0.1 called the keys `guards` and `moments`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DilocoFiles {
    #[serde(alias = "guards")]
    loss_spikes: Vec<SpikeDetector>,
    momentum: Digest,
    #[serde(alias = "moments")]
    optimizers: Vec<Digest>,
}

impl DilocoState {
    /// Writes the files into `checkpoint`.
    pub fn write(&self, checkpoint: &Path) -> Result<DilocoFiles> {
        let directory = checkpoint.join(DIRECTORY);
        fs::create_dir(&directory).map_err(Error::io(&directory))?;
        let write = |name: String, bytes: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(Error::io(&path))?;
            Digest::of(&path)
        };
        let optimizers = self.optimizers.iter().enumerate();
        Ok(DilocoFiles {
            loss_spikes: self.loss_spikes.clone(),
            momentum: write("momentum.bin".into(), &self.momentum)?,
            optimizers: optimizers
                .map(|(i, bytes)| write(format!("rank-{}.bpk", i + 1), bytes))
                .collect::<Result<_>>()?,
        })
    }

    /// Reads the files that `files` lists.
    ///
    /// # Errors
    /// One is missing or damaged.
    pub fn read(checkpoint: &Path, files: &DilocoFiles) -> Result<Self> {
        let directory = checkpoint.join(DIRECTORY);
        let read = |name: String, digest: &Digest| {
            let path = directory.join(name);
            digest.check(&path)?;
            fs::read(&path).map_err(Error::io(&path))
        };
        let optimizers = files.optimizers.iter().enumerate();
        Ok(Self {
            momentum: read("momentum.bin".into(), &files.momentum)?,
            optimizers: optimizers
                .map(|(i, digest)| read(format!("rank-{}.bpk", i + 1), digest))
                .collect::<Result<_>>()?,
            loss_spikes: files.loss_spikes.clone(),
        })
    }
}
