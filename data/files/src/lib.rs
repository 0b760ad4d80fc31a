//! What retort asks of the operating system: files and directories that are complete or absent,
//! and sizes of memory.
//!
//! ```
//! let directory = tempfile::tempdir()?;
//! retort_files::write(&directory.path().join("figures.json"), b"{}\n")?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod atomic_file;
pub mod memory;

pub use atomic_file::{AtomicDirectory, AtomicFile, rename, sync_all, write};
