//! Rows of plain text: the whole file, or a part from each line that begins one.

use std::ops::ControlFlow;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::row_sink::OnRow;
use crate::error::{Error, Result};
use crate::tasks::template::Row;

/// The whole file is a row; with `starts`, every line that matches begins one. Blank rows are left out.
pub(super) fn read(
    path: &Path,
    starts: Option<&Regex>,
    on_row: &mut OnRow<'_>,
) -> Result<ControlFlow<()>> {
    let whole = std::fs::read_to_string(path).map_err(Error::io(path, "read it as UTF-8"))?;
    let mut pages: Vec<Vec<&str>> = vec![Vec::new()];
    for line in whole.split('\n') {
        if starts.is_some_and(|regex| regex.is_match(line)) {
            pages.push(Vec::new());
        }
        if let Some(page) = pages.last_mut() {
            page.push(line);
        }
    }
    for page in pages {
        let page = page.join("\n");
        if page.trim().is_empty() {
            continue;
        }
        let row = Row::from_iter([("text".to_owned(), Value::from(page))]);
        if on_row(row)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
