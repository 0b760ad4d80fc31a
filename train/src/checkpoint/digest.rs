//! Size and checksum of a checkpoint's file, by which `state.json` knows that it is the one written.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Size and checksum of a file as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// Its checksum (Castagnoli's polynomial).
    pub crc32c: u32,
}

impl Digest {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let mut file = fs::File::open(path).map_err(Error::io(path))?;
        let (mut digest, mut part) = (
            Self {
                bytes: 0,
                crc32c: 0,
            },
            vec![0; 1 << 20],
        );
        loop {
            let n = file.read(&mut part).map_err(Error::io(path))?;
            if n == 0 {
                return Ok(digest);
            }
            digest.bytes += n as u64;
            digest.crc32c = crc32c::crc32c_append(digest.crc32c, &part[..n]);
        }
    }

    /// Whether the file at `path` is as it was written. A damaged one may still load, with moments missing or wrong.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        if Self::of(path)? == *self {
            return Ok(());
        }
        Err(Error::invalid(
            path,
            "is damaged (it is not the file that state.json speaks of): remove this checkpoint's directory to \
             go on from the one before",
        ))
    }
}
