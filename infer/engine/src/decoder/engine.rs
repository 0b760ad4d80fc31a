//! [`Engine`]: a decoder of a mapped GGUF file, shared and read-only.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::config::Config;
use super::kv_block::KvType;
use super::kv_cache::KvCache;
use super::memory;
use super::rope::Rope;
use super::sequence::Sequence;
use super::weights::Weights;
use retort_format::gguf::Gguf;
use retort_format::{Error, Result};
use retort_kernels::cores;
use retort_kernels::pool::Pool;

/// A model ready to run.
#[derive(Debug)]
pub struct Engine {
    gguf: Gguf,
    config: Config,
    pub(super) weights: Weights,
    settings: EngineSettings,
}

/// How a model is run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The threads that compute.
    pub pool: Arc<Pool>,
    /// The format of keys and values.
    pub kv: KvType,
}

impl EngineSettings {
    /// `threads` threads, by default one per fast physical core; with `pin`, each stays on one.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the system refuses to start a thread.
    pub fn new(threads: Option<NonZeroUsize>, pin: bool, kv: KvType) -> Result<Self> {
        let cores = cores::fast_cores();
        let threads = threads.map_or(cores.len(), NonZeroUsize::get);
        let pool = Pool::new(threads, if pin { &cores } else { &[] });
        let pool = pool.map_err(|error| {
            let problem = format!("cannot start {threads} threads: {error}; choose fewer");
            Error::Argument(problem)
        })?;
        let pool = Arc::new(pool);
        Ok(Self { pool, kv })
    }
}

impl Engine {
    /// A model of `gguf` with default settings.
    pub fn new(gguf: Gguf) -> Result<Self> {
        Self::with(gguf, EngineSettings::new(None, false, KvType::default())?)
    }

    /// Checks metadata and tensors of `gguf` and makes a model of it.
    pub fn with(gguf: Gguf, settings: EngineSettings) -> Result<Self> {
        let config = Config::from_gguf(&gguf)?;
        let weights = Weights::load(&gguf, &config)?;
        Ok(Self {
            gguf,
            config,
            weights,
            settings,
        })
    }

    /// The threads that compute.
    pub fn pool(&self) -> &Pool {
        &self.settings.pool
    }

    /// How it is run.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Shapes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Whether a sequence gets the same bits whatever goes through a pass with it: all matrices are packed, and keys
    /// and values are not quantized. See [`Batch`](super::Batch).
    pub fn stands_alone(&self) -> bool {
        self.weights.in_panels() && matches!(self.settings.kv, KvType::F32 | KvType::F16)
    }

    /// Bytes of weights that decoding reads for a token: all layers and the output projection.
    pub fn bytes_per_token(&self) -> u64 {
        self.weights.matrices().map(|weight| weight.bytes()).sum()
    }

    /// Multiply-adds of weights for a prompt's token: all layers, without the output projection, which only the last
    /// token goes through.
    pub fn macs_per_prompt_token(&self) -> u64 {
        let config = &self.config;
        let attention = 2 * config.q_size() + 2 * config.kv_size();
        let width = attention + 3 * config.intermediate_size;
        (config.n_layers * config.hidden_size * width) as u64
    }

    /// The rotary frequencies for a sequence that begins with a prompt of `length`.
    pub fn rope(&self, length: usize) -> Rope {
        Rope::new(&self.config, self.weights.rope_freqs.as_deref(), length)
    }

    /// A sequence that will begin with a prompt of `prompt` tokens.
    pub fn sequence(&self, prompt: usize) -> Sequence {
        let cache = KvCache::new(&self.config, self.settings.kv);
        Sequence::new(self.rope(prompt), cache)
    }

    /// Refuses keys and values of `positions` in all that do not fit the memory that is free.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`], with both sizes.
    pub fn check_memory(&self, positions: usize) -> Result<()> {
        let file = self.gguf.file_size();
        memory::check(&self.config, self.settings.kv, file, positions)
    }
}
