//! The callback that rows go to, and the error of a damaged data file.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Error, Result};
use crate::tasks::template::Row;

/// The callback that gets the rows one by one; it breaks when it needs no more.
pub(in crate::tasks) type OnRow<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>> + 'a;

/// The error at `place`, a line or a row, of the file at `path`.
pub(super) fn wrong(path: &Path, place: String, reason: impl ToString) -> Error {
    Error::Data {
        path: path.to_owned(),
        place,
        reason: reason.to_string().replace('\n', " "),
    }
}
