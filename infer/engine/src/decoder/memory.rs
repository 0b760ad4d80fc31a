//! Whether a sequence fits the machine's memory, said before it starts.
//!
//! What is counted: the mapped file, which decoding reads whole for every token (a machine that cannot hold it reads
//! it from storage again and again), and the keys and values of the whole context. What there is: Linux's estimate of
//! memory that can be had without swapping, to which pages of the file that are cached already count.

use super::config::Config;
use super::kv_block::KvType;
use retort_files::memory::available_bytes;
use retort_format::{Error, Result};

/// Refuses a context whose keys and values, with the file of `file` bytes, do not fit.
pub(super) fn check(config: &Config, kv: KvType, file: u64, context: usize) -> Result<()> {
    let bytes = config.kv_cache_bytes(context, kv);
    let needed = bytes.and_then(|bytes| file.checked_add(bytes as u64));
    match (needed, available_bytes()) {
        (Some(needed), Some(available)) if needed > available => {
            let smaller = match kv {
                KvType::Q4 => "",
                _ => ", or store keys and values in fewer bits",
            };
            Err(Error::Argument(format!(
                "the model and {context} positions take {} MiB, but {} MiB of memory are free; \
                 choose a shorter context{smaller}",
                needed >> 20,
                available >> 20
            )))
        }
        _ => Ok(()),
    }
}
