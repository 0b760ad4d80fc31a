//! Progress of a pruning, and how it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// How far a step of pruning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The step: `tokens` (counted), `layers`, `activations`, `weights` (scored) or `writing`.
    pub what: &'static str,
    /// Tokens or weights done.
    pub done: u64,
    /// Tokens or weights in all.
    pub total: u64,
}

/// Where progress goes, and the flag that ends the run.
pub(crate) struct Monitor<'a> {
    stop: &'a AtomicBool,
    progress: &'a dyn Fn(Progress),
}

impl<'a> Monitor<'a> {
    pub(crate) fn new(stop: &'a AtomicBool, progress: &'a dyn Fn(Progress)) -> Self {
        Self { stop, progress }
    }

    /// Reports `done` of `total`.
    ///
    /// # Errors
    /// [`Error::Stopped`] once the flag is set.
    pub(crate) fn report(&self, what: &'static str, done: u64, total: u64) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        (self.progress)(Progress { what, done, total });
        Ok(())
    }
}
