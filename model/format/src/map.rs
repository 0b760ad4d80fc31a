//! Files mapped into memory, so that weights are paged in by the system and shared between processes instead of being
//! copied.
#![allow(unsafe_code)] // mapping a file is unsafe by nature; the reason it is sound enough stands below

use crate::error::{Error, Result};
use std::fs::File;
use std::path::Path;

/// A file's bytes, read-only.
pub(crate) struct Map(Option<memmap2::Mmap>);

impl Map {
    /// Maps the whole file; an empty one becomes an empty slice.
    pub fn open(path: &Path) -> Result<Map> {
        let file = File::open(path).map_err(Error::io(path))?;
        let meta = file.metadata().map_err(Error::io(path))?;
        if !meta.is_file() {
            return Err(Error::format(path, "is not a regular file"));
        }
        if meta.len() == 0 {
            return Ok(Map(None));
        }
        // SAFETY: the map is private and read-only, and the bytes are only ever read as integers of any value, so
        // another process writing the file can change results but break no invariant of ours. Should it truncate
        // the file, the system ends this process on the next access past the end, as with every mapped model file;
        // retort itself replaces files by renaming and never writes them in place.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Map(Some(map)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }

    /// Tells the system that these bytes, a part of the map's own, will not be looked at soon: their pages need not stay
    /// in memory. They are there again when they are.
    pub fn forget(&self, part: &[u8]) {
        #[cfg(unix)]
        if let Some(map) = &self.0 {
            let at = (part.as_ptr() as usize).wrapping_sub(map.as_ptr() as usize);
            if at
                .checked_add(part.len())
                .is_some_and(|end| end <= map.len())
            {
                // SAFETY: pages of a private, read-only map of a file hold what the file holds, and nothing is lost with
                // them. That it is advice, and may fail, is why the result is of no interest.
                let _ = unsafe {
                    let advice = memmap2::UncheckedAdvice::DontNeed;
                    map.unchecked_advise_range(advice, at, part.len())
                };
            }
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}
