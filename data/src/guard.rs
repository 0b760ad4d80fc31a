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

/// Calls `step`; `None` if it panicked. What `step` borrows must not be used again then.
pub(crate) fn quietly<T>(step: impl FnOnce() -> T) -> Option<T> {
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
    done.ok()
}

/// Calls `step`; its error and a panic in it become text. The caller knows the file and the place.
pub fn guarded<T, E: std::fmt::Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match quietly(step) {
        Some(done) => done.map_err(|e| e.to_string()),
        None => Err("the reader failed on malformed data".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_errors_are_themselves() {
        let divide = |by: usize| guarded(|| Ok::<_, String>(6 / by));
        assert_eq!(divide(2), Ok(3));
        assert_eq!(
            divide(0),
            Err("the reader failed on malformed data".to_owned())
        );
        assert_eq!(guarded(|| Err::<(), _>("no")), Err("no".to_owned()));
    }
}
