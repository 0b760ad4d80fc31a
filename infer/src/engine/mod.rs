//! The engine: a decoder run from a mapped GGUF file.
//!
//! [`Engine`] is the model, shared and read-only; a [`Session`] is one sequence with its keys and
//! values: token ids in, logits `[vocab_size]` out. Weights are never copied: the kernels read them
//! where the file is mapped.

mod architecture;
mod cache;
mod config;
mod rope;
mod session;
mod weights;

pub use architecture::{Architecture, RopePairs};
pub use config::{Config, PastTrained};
pub(crate) use config::{DYNAMIC_NTK, LOGN, TRAINED_LENGTH};
pub use session::Session;

use crate::Result;
use crate::gguf::Gguf;

/// A model ready to run.
#[derive(Debug)]
pub struct Engine {
    gguf: Gguf,
    config: Config,
    weights: weights::Weights,
}

impl Engine {
    /// Checks metadata and tensors of `gguf` and makes a model of it.
    pub fn new(gguf: Gguf) -> Result<Self> {
        let config = Config::from_gguf(&gguf)?;
        let weights = weights::Weights::load(&gguf, &config)?;
        Ok(Self {
            gguf,
            config,
            weights,
        })
    }

    /// Shapes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The rotary frequencies for a sequence that begins with a prompt of `length`.
    fn rope(&self, length: usize) -> rope::Rope {
        let alpha = self.config.past_trained.ntk_alpha(length);
        rope::Rope::new(&self.config, self.weights.rope_freqs.as_deref(), alpha)
    }

    /// A new sequence with room for `context` positions.
    pub fn session(&self, context: usize) -> Result<Session<'_>> {
        Session::new(self, context)
    }
}
