//! Turns a panic of another crate into an error.
//!
//! Parsers such as `parquet` and `tokenizers` divide by zero or slice out of range on some damaged
//! files. The panic is caught here. The line that the panic hook would print is kept back, for the
//! error says it.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work`; `None` if it panicked. What `work` borrows must not be used again then.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
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
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.ok()
}

/// Calls `work`; its error becomes text, and a panic in it the error `on_panic`.
///
/// # Errors
///
/// The text of `work`'s error, or `on_panic`.
pub fn catch_panic_as_error<T, E: Display>(
    on_panic: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    match catch_panic(work) {
        Some(done) => done.map_err(|e| e.to_string()),
        None => Err(on_panic.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_errors_are_themselves() {
        let divide = |by: usize| catch_panic_as_error("failed", || Ok::<_, String>(6 / by));
        assert_eq!(divide(2), Ok(3));
        assert_eq!(divide(0), Err("failed".to_owned()));
        let refused = catch_panic_as_error("failed", || Err::<(), _>("no"));
        assert_eq!(refused, Err("no".to_owned()));
    }
}
