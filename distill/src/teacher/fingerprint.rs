//! A hash of a teacher's weights, by which a cache knows its teacher.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// XXH3 (64 bits, hexadecimal) of a `.gguf` file, or of a directory's `config.json` and
/// safetensors. It is not cryptographic.
///
/// # Errors
/// A file that cannot be read.
pub fn fingerprint(teacher: &Path) -> Result<String> {
    let mut files = vec![teacher.to_owned()];
    if teacher.is_dir() {
        let entries = fs::read_dir(teacher).map_err(Error::io(teacher))?;
        let names = entries.map(|entry| entry.map(|e| e.path()));
        let all: Vec<PathBuf> = names
            .collect::<std::io::Result<_>>()
            .map_err(Error::io(teacher))?;
        let weights = |path: &PathBuf| {
            path.extension().is_some_and(|e| e == "safetensors")
                || path.file_name().is_some_and(|n| n == "config.json")
        };
        files = all.into_iter().filter(weights).collect();
        files.sort();
    }
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    for path in &files {
        let mut file = File::open(path).map_err(Error::io(path))?;
        loop {
            let n = file.read(&mut buffer).map_err(Error::io(path))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
        }
    }
    Ok(format!("{:016x}", hash.digest()))
}
