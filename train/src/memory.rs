//! Memory between steps: training frees and asks for the same tensors in every step, so what is freed is kept.
//!
//! The allocator is the binary's choice; this speaks to mimalloc, which `retort` has chosen. Left to itself mimalloc
//! (version 3, `mi_option_purge_delay`) gives pages back a second after they were freed, and a step longer than that pays
//! the system for zeroing them again (`experiments/results/2026-11-training-speed.md`).
#![expect(unsafe_code, reason = "an option of the allocator, which is C")]

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which the bindings leave out: milliseconds, -1 for never.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps freed memory for the process from now on, unless `MIMALLOC_PURGE_DELAY` says for how long. Without effect where
/// mimalloc is not the global allocator.
pub fn keep_freed_memory() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: options are plain atomics of the allocator's, there to be set at any time; the number is within its table.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_freed_memory_sets_mimallocs_purge_delay() {
        // SAFETY: as above.
        let milliseconds = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(milliseconds(), 1000, "version 3's default");
        keep_freed_memory();
        assert_eq!(milliseconds(), -1);
    }
}
