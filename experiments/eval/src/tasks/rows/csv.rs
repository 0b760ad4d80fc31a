//! Rows of comma-separated values (RFC 4180). Every column is text; the first record names the columns.

use std::ops::ControlFlow;
use std::path::Path;

use csv::ReaderBuilder;
use serde_json::Value;

use super::row_sink::{OnRow, wrong};
use crate::error::{Error, Result};

/// A last record that is added to the file: a quote that was never closed swallows it.
const END: &[u8] = b"end of file";

/// A record with more or fewer fields than the header is an error, as is a quote that is never closed.
pub(super) fn read(path: &Path, on_row: &mut OnRow<'_>) -> Result<ControlFlow<()>> {
    let mut bytes = std::fs::read(path).map_err(Error::io(path, "read it"))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(END);
    let reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(&bytes[..]);
    let mut records = reader.into_byte_records().peekable();
    let mut names: Option<Vec<String>> = None;
    while let Some(record) = records.next() {
        let record = record.map_err(|e| wrong(path, "the file".into(), e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: String| wrong(path, format!("line {line}"), reason);
        if records.peek().is_none() {
            if !record.iter().eq([END]) {
                return Err(wrong("a quote is not closed".into()));
            }
            break;
        }
        let fields: Vec<String> = (record.iter())
            .map(|field| std::str::from_utf8(field).map(str::to_owned))
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(e.to_string()))?;
        let Some(names) = &names else {
            names = Some(fields);
            continue;
        };
        if fields.len() != names.len() {
            let (fields, names) = (fields.len(), names.len());
            return Err(wrong(format!("{fields} fields under {names} names")));
        }
        let values = fields.into_iter().map(Value::from);
        if on_row(names.iter().cloned().zip(values).collect())?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
