//! Checkpoints written on a thread of their own while training goes on.
//!
//! One at a time: the next waits for the one before it. What fails is reported at the next
//! occasion, and by [`BackgroundWriter::finish`] at the end of the run.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::save::{CheckpointContents, Retention, save};
use crate::error::{Error, Result};

/// See the module. Dropping it waits for the checkpoint that is being written.
#[derive(Default)]
pub struct BackgroundWriter {
    thread: Option<JoinHandle<Result<PathBuf>>>,
}

impl BackgroundWriter {
    /// Starts to write a checkpoint into `run`, after the one before it: answers that one's
    /// directory if it had not been answered yet.
    ///
    /// # Errors
    /// Writing the one before failed, or the system gives no thread.
    pub fn start(
        &mut self,
        run: &Path,
        contents: CheckpointContents,
        keep: Retention,
    ) -> Result<Option<PathBuf>> {
        let before = self.finish()?;
        let directory = run.to_owned();
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || save(&directory, &contents, keep))
            .map_err(Error::io(run))?;
        self.thread = Some(thread);
        Ok(before)
    }

    /// The directory of a checkpoint that has been completed since the last call.
    ///
    /// # Errors
    /// It could not be written.
    pub fn poll(&mut self) -> Result<Option<PathBuf>> {
        match &self.thread {
            Some(thread) if thread.is_finished() => self.finish(),
            _ => Ok(None),
        }
    }

    /// Waits for the checkpoint that is being written, if there is one, and answers its
    /// directory.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish(&mut self) -> Result<Option<PathBuf>> {
        let Some(thread) = self.thread.take() else {
            return Ok(None);
        };
        match thread.join() {
            Ok(written) => written.map(Some),
            // The trainer has no other use for a panic than its own.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for BackgroundWriter {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Only where the run failed already: that failure is the one to report.
            let _ = thread.join();
        }
    }
}
