//! What ranks that train apart have each of their own, beside what they have together: `diloco/momentum.bin` (the
//! outer momentum, f32, little-endian, in the model's order) and `diloco/rank-K.bpk` (the optimizer of rank K; rank
//! 0's is the checkpoint's own).

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::error::{Error, Result};
use crate::guard::Guard;

const DIRECTORY: &str = "diloco";

/// See the module.
pub struct Apart {
    /// The outer momentum.
    pub momentum: Vec<u8>,
    /// The optimizers' states of rank 1 and those after it.
    pub moments: Vec<Vec<u8>>,
    /// What each rank has seen, from rank 0.
    pub guards: Vec<Guard>,
}

/// What `state.json` says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApartState {
    guards: Vec<Guard>,
    momentum: Digest,
    moments: Vec<Digest>,
}

impl Apart {
    /// Writes the files into `checkpoint`.
    pub fn write(&self, checkpoint: &Path) -> Result<ApartState> {
        let directory = checkpoint.join(DIRECTORY);
        fs::create_dir(&directory).map_err(Error::io(&directory))?;
        let write = |name: String, bytes: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(Error::io(&path))?;
            Digest::of(&path)
        };
        let moments = self.moments.iter().enumerate();
        Ok(ApartState {
            guards: self.guards.clone(),
            momentum: write("momentum.bin".into(), &self.momentum)?,
            moments: moments
                .map(|(i, bytes)| write(format!("rank-{}.bpk", i + 1), bytes))
                .collect::<Result<_>>()?,
        })
    }

    /// Reads the files that `state` speaks of.
    ///
    /// # Errors
    /// One is missing or damaged.
    pub fn read(checkpoint: &Path, state: &ApartState) -> Result<Self> {
        let directory = checkpoint.join(DIRECTORY);
        let read = |name: String, digest: &Digest| {
            let path = directory.join(name);
            digest.check(&path)?;
            fs::read(&path).map_err(Error::io(&path))
        };
        let moments = state.moments.iter().enumerate();
        Ok(Self {
            momentum: read("momentum.bin".into(), &state.momentum)?,
            moments: moments
                .map(|(i, digest)| read(format!("rank-{}.bpk", i + 1), digest))
                .collect::<Result<_>>()?,
            guards: state.guards.clone(),
        })
    }
}
