//! Rows of JSON: an object a line, one array of objects, or an object that holds such an array.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::row_sink::{OnRow, wrong};
use crate::error::{Error, Result};
use crate::tasks::template::Row;

/// Most bytes that a gzipped file may unpack to.
const MOST_UNPACKED: u64 = 1 << 30;

/// Whether a file is gzipped, by its name.
pub(super) fn is_gzipped(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// An object a line, or one array of objects, or one object that has such an array under `rows_key`.
pub(super) fn read(
    path: &Path,
    rows_key: Option<&str>,
    on_row: &mut OnRow<'_>,
) -> Result<ControlFlow<()>> {
    let failed = || Error::io(path, "read it");
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let mut input: Box<dyn BufRead> = if is_gzipped(path) {
        let unpacked = MultiGzDecoder::new(file).take(MOST_UNPACKED);
        Box::new(BufReader::new(unpacked))
    } else {
        Box::new(BufReader::new(file))
    };
    if let Some(key) = rows_key {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(failed())?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut whole: Row =
            serde_json::from_slice(text).map_err(|e| wrong(path, "the object".into(), e))?;
        return match whole.remove(key) {
            Some(Value::Array(rows)) => objects(path, rows, on_row),
            _ => Err(wrong(path, key.into(), "is no list in it")),
        };
    }
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(failed())? == 0 {
            break;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if number == 1 && text.starts_with(b"[") {
            input.read_to_end(&mut line).map_err(failed())?;
            return array(path, &line, on_row);
        }
        let place = || format!("line {number}");
        let value = serde_json::from_slice(text).map_err(|e| wrong(path, place(), e))?;
        if on_row(object(path, place, value)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn array(path: &Path, bytes: &[u8], on_row: &mut OnRow<'_>) -> Result<ControlFlow<()>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let rows: Vec<Value> =
        serde_json::from_slice(bytes).map_err(|e| wrong(path, "the array".into(), e))?;
    objects(path, rows, on_row)
}

fn objects(path: &Path, rows: Vec<Value>, on_row: &mut OnRow<'_>) -> Result<ControlFlow<()>> {
    for (index, value) in rows.into_iter().enumerate() {
        if on_row(object(path, || format!("row {index}"), value)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn object(path: &Path, place: impl Fn() -> String, value: Value) -> Result<Row> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err(wrong(path, place(), "must be a JSON object of columns")),
    }
}
