//! Files written whole or not at all: beside their place first, synced, then renamed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to `path`; after a crash the old file or the new one is there, never a part.
///
/// # Errors
///
/// [`Error::Io`] with the path.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    with_file(path, |mut file| {
        file.write_all(bytes)
            .map_err(|e| Error::io(path, "write it", e))?;
        Ok(file)
    })
}

/// Lets `write` fill a new file that then takes `path`'s place.
pub(crate) fn with_file(path: &Path, write: impl FnOnce(File) -> Result<File>) -> Result<()> {
    let fail = |e| Error::io(path, "write it", e);
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    let written = File::create(&aside)
        .map_err(fail)
        .and_then(write)
        .and_then(|file| file.sync_all().map_err(fail))
        .and_then(|()| std::fs::rename(&aside, path).map_err(fail));
    if written.is_err() {
        // The error to report is the one above; a file that was never made cannot be removed.
        let _ = std::fs::remove_file(&aside);
    }
    written
}
