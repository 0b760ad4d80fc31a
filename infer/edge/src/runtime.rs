//! The flags that several commands share: threads, the format of keys and values, speculation.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use retort_engine::Model;
use retort_engine::decoder::{EngineSettings, KvType};
use retort_engine::speculate::{Speculated, Speculation};

/// How a model is run.
#[derive(Args)]
pub struct Runtime {
    /// Threads that compute [default: one per fast physical core]
    #[arg(long, short = 't', value_name = "T")]
    threads: Option<NonZeroUsize>,
    /// Keep each thread on a core of its own
    #[arg(long)]
    pin: bool,
    /// How keys and values are kept in memory
    #[arg(long, value_enum, default_value = "f16", value_name = "TYPE")]
    kv_cache: Kv,
}

/// Who guesses tokens ahead.
#[derive(Args)]
pub struct Speculate {
    /// Guess tokens ahead and check several at once, which changes the speed and never the text: "lookup" guesses from
    /// the text so far, a smaller model with the same tokenizer by itself
    #[arg(long, value_name = "lookup|FILE.gguf")]
    speculate: Option<PathBuf>,
}

impl Speculate {
    /// Opens the smaller model, if there is one.
    pub fn open(&self, settings: &EngineSettings) -> Result<Speculation> {
        Ok(match &self.speculate {
            None => Speculation::Off,
            Some(file) if file.as_os_str() == "lookup" => Speculation::Lookup,
            Some(file) => {
                let draft = Model::open_with(file, settings.clone())?;
                Speculation::DraftModel(Arc::new(draft))
            }
        })
    }
}

/// How guessing went, where there was any.
pub fn guesses(speculated: Speculated) -> Option<String> {
    let Speculated { drafted, accepted } = speculated;
    (drafted > 0).then(|| format!("{accepted} of {drafted} guesses right"))
}

/// Formats of keys and values.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kv {
    /// Single precision
    F32,
    /// Half precision
    F16,
    /// 8 bits: about half the memory
    Q8,
    /// 4 bits: about a third of it
    Q4,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => Self::F32,
            Kv::F16 => Self::F16,
            Kv::Q8 => Self::Q8,
            Kv::Q4 => Self::Q4,
        }
    }
}

impl Runtime {
    /// Starts the threads.
    pub fn settings(&self) -> Result<EngineSettings> {
        Ok(EngineSettings::new(
            self.threads,
            self.pin,
            self.kv_cache.into(),
        )?)
    }
}
