//! Files that are whole or not there: written beside their place, synced, then renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes `bytes` to `path`, replacing what is there.
///
/// # Errors
///
/// [`Error::Io`]; what was at `path` is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let aside = Path::new(&name);
    let written = File::create(aside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(aside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(aside);
        Error::io(path, error)
    })
}
