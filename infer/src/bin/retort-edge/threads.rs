//! How many threads compute: `--threads`, by default one per physical core.
//!
//! A second thread on a core shares its arithmetic units and its path to memory, of which
//! decoding already uses all; it costs more in waiting than it brings.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

/// The flag that every computing command takes.
#[derive(Args)]
pub struct Threads {
    /// Threads that compute [default: one per physical core]
    #[arg(long, short = 't', value_name = "T")]
    threads: Option<NonZeroUsize>,
}

impl Threads {
    /// Runs `work` inside a pool of that many threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.count())
            .build()
            .context("cannot start the threads; choose fewer with --threads")?;
        pool.install(work)
    }

    /// The number of threads.
    pub fn count(&self) -> usize {
        self.threads.map_or_else(default_count, NonZeroUsize::get)
    }
}

/// Physical cores, as far as this process may use them.
fn default_count() -> usize {
    let usable = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    physical_cores(Path::new("/sys/devices/system/cpu")).map_or(usable, |cores| cores.min(usable))
}

/// Distinct sets of sibling threads under Linux's CPU directory.
fn physical_cores(directory: &Path) -> Option<usize> {
    let mut cores = BTreeSet::new();
    for entry in std::fs::read_dir(directory).ok()? {
        let siblings = entry.ok()?.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(siblings) {
            cores.insert(list);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_count_as_one_core() {
        let directory = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let topology = directory.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("thread_siblings_list"), siblings).unwrap();
        }
        assert_eq!(physical_cores(directory.path()), Some(2));
        assert_eq!(physical_cores(&directory.path().join("none")), None);
    }
}
