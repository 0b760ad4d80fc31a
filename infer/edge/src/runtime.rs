//! The flags of every command that computes: threads, and the format of keys and values.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{Args, ValueEnum};
use retort_engine::decoder::{KvType, Settings};

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
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings::new(self.threads, self.pin, self.kv_cache.into())?)
    }
}
