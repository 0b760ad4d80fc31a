//! A panic of a reader on a damaged file as an error.

use std::fmt::Display;

use retort_tokenizer::catch_panic_as_error;

/// Calls `read`; its error and a panic in it become text. The caller knows the file and the place.
///
/// # Errors
///
/// The text of `read`'s error, or that the reader failed.
pub fn catch_panic<T, E: Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    catch_panic_as_error("the reader failed on malformed data", read)
}
