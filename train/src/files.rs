//! Files that are complete or absent: synced before anything relies on them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to `path` by way of a synced file beside it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside).map_err(Error::io(&aside))?;
    file.write_all(bytes).map_err(Error::io(&aside))?;
    file.sync_all().map_err(Error::io(&aside))?;
    fs::rename(&aside, path).map_err(Error::io(path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Syncs every file in `directory` and those in it, then the directory itself.
pub fn sync_all(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        if path.is_dir() {
            sync_all(&path)?;
            continue;
        }
        File::open(&path)
            .and_then(|f| f.sync_all())
            .map_err(Error::io(&path))?;
    }
    sync_directory(directory)
}

/// Makes a rename or a new entry in `directory` durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    File::open(directory)
        .and_then(|f| f.sync_all())
        .map_err(Error::io(directory))
}
