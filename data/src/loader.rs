//! Batches made ready on a thread of their own while the trainer works.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::batches::Batches;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::stats::Stats;

/// Batches kept ready.
const READY: usize = 4;

/// A batch, and what is known at its end.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The batch.
    pub batch: Batch,
    /// Where the next one starts.
    pub cursor: Cursor,
    /// What became of the text so far.
    pub stats: Stats,
    /// How long the caller waited for it.
    pub waited: Duration,
}

/// Makes batches ahead. Dropping it ends its thread.
pub struct Loader {
    /// `None` once dropped, so that the thread's next send fails.
    ready: Option<Receiver<Result<Loaded>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to make `batches`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the system gives no thread.
    pub fn start(mut batches: Batches) -> Result<Self> {
        let (send, ready) = sync_channel(READY);
        let make = move || {
            loop {
                let loaded = batches.next_batch().map(|batch| Loaded {
                    batch,
                    cursor: batches.cursor(),
                    stats: batches.stats(),
                    waited: Duration::ZERO,
                });
                let failed = loaded.is_err();
                if send.send(loaded).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("data".into())
            .spawn(make)
            .map_err(|e| Error::config("threads", format!("cannot be started: {e}")))?;
        Ok(Self {
            ready: Some(ready),
            thread: Some(thread),
        })
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// Any error of reading a source; there is no batch after it.
    pub fn next_batch(&mut self) -> Result<Loaded> {
        let start = Instant::now();
        let received = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        // The thread ends only after an error, or if it panicked.
        let mut loaded = received.unwrap_or(Err(Error::ThreadEnded))?;
        loaded.waited = start.elapsed();
        Ok(loaded)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by its hook.
            let _ = thread.join();
        }
    }
}
