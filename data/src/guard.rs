//! Runs code of other crates that may panic on malformed input, and makes the panic an error.
//!
//! `parquet` divides by zero or slices out of range on some damaged pages. Such a panic is caught
//! here, and the line that the panic hook would print is kept back: the error says it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What is said of a panic; the caller knows the file and the place.
const FAILED: &str = "the reader failed on malformed data";

/// Calls `step`; a panic in it becomes an error, and so does its own error, as text. What `step`
/// borrows must not be used again after an error.
pub(crate) fn guarded<T, E: std::fmt::Display>(
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(outer);
    match done {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err(FAILED.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_errors_are_themselves() {
        let divide = |by: usize| guarded(|| Ok::<_, String>(6 / by));
        assert_eq!(divide(2), Ok(3));
        assert_eq!(divide(0), Err(FAILED.to_owned()));
        assert_eq!(guarded(|| Err::<(), _>("no")), Err("no".to_owned()));
    }
}
