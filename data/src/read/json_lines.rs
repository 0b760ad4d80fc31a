//! JSON lines, plain or in gzip, as C4's own `c4-train.00000-of-01024.json.gz`: one object a line
//! with a string `text`; other fields are skipped over.
//!
//! Gzip has no places to enter at: going on from row n reads the n rows before it again, which for
//! C4's shards of 320 MB takes seconds.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::segment_rows::SegmentRows;
use crate::error::{Error, Result};

/// Bytes of one line; a longer one is an error, and is not held in memory.
const LINE_BYTES: usize = 64 << 20;
/// U+FEFF, with which Windows begins a file of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A JSON-lines file.
pub(crate) struct JsonLines {
    path: PathBuf,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Object {
    text: Option<String>,
}

impl JsonLines {
    /// Whether `path` is named as JSON lines are.
    pub(crate) fn is_named(path: &Path) -> bool {
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase());
        name.is_some_and(|name| {
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            [".json", ".jsonl", ".ndjson"]
                .iter()
                .any(|end| name.ends_with(end))
        })
    }

    /// Opens `path`; nothing is read yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        File::open(path).map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The documents from row `skip` on.
    pub(super) fn rows(&self, skip: u64) -> Result<SegmentRows> {
        let mut file = BufReader::with_capacity(
            1 << 18,
            File::open(&self.path).map_err(Error::io(&self.path))?,
        );
        let start = file.fill_buf().map_err(Error::io(&self.path))?;
        let input: Box<dyn BufRead + Send> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Box::new(Lines {
            path: self.path.clone(),
            input: Some(input),
            line: Vec::new(),
            number: 0,
            row: 0,
            skip,
        }))
    }
}

/// The lines of a file; empty ones are no rows.
struct Lines {
    path: PathBuf,
    input: Option<Box<dyn BufRead + Send>>,
    line: Vec<u8>,
    /// Lines read, for messages.
    number: u64,
    /// The next row; a line that is no document is a row too, so that the rows after it keep their
    /// numbers.
    row: u64,
    /// Rows before this one are not given.
    skip: u64,
}

impl Iterator for Lines {
    type Item = Result<(u64, Option<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let input = self.input.as_mut()?;
            self.number += 1;
            match read_line(input, &mut self.line) {
                Ok(true) => {}
                Ok(false) => {
                    self.input = None;
                    return None;
                }
                Err(cause) => {
                    self.input = None;
                    return Some(Err(self.error(cause.to_string())));
                }
            }
            let long = self.line.len() > LINE_BYTES;
            // The mark of UTF-8 at a file's start, and at that of each file in a concatenation.
            if self.line.starts_with(BYTE_ORDER_MARK) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
            if !long && self.line.trim_ascii().is_empty() {
                continue;
            }
            let row = self.row;
            self.row += 1;
            if row < self.skip {
                continue;
            }
            if long {
                let reason = format!("longer than the limit of {LINE_BYTES} bytes");
                return Some(Err(self.error(reason)));
            }
            return Some(
                parse(&self.line)
                    .map(|object| (row, object.text))
                    .map_err(|e| self.error(format!("no JSON object with a string `text`: {e}"))),
            );
        }
    }
}

impl Lines {
    fn error(&self, reason: String) -> Error {
        Error::JsonLine {
            path: self.path.clone(),
            line: self.number,
            reason,
        }
    }
}

/// Reads an object. Python's `json` writes numbers that JSON does not have (`NaN` where pandas has
/// no value): they count as null.
fn parse(line: &[u8]) -> serde_json::Result<Object> {
    serde_json::from_slice(line).or_else(|error| match without_non_numbers(line) {
        Some(line) => serde_json::from_slice(&line),
        None => Err(error),
    })
}

/// `line` with `null` for each `NaN`, `Infinity` and `-Infinity` outside of strings; `None` if it
/// has none.
fn without_non_numbers(line: &[u8]) -> Option<Vec<u8>> {
    const NAMES: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut out, mut rest) = (Vec::with_capacity(line.len()), line);
    let (mut in_string, mut found) = (false, false);
    while let Some(&byte) = rest.first() {
        let name = NAMES.iter().find(|name| rest.starts_with(name));
        if let Some(name) = name.filter(|_| !in_string) {
            found = true;
            out.extend_from_slice(b"null");
            rest = &rest[name.len()..];
            continue;
        }
        in_string ^= byte == b'"';
        // What is escaped ends no string.
        let n = if in_string && byte == b'\\' { 2 } else { 1 };
        let (part, after) = rest.split_at(n.min(rest.len()));
        out.extend_from_slice(part);
        rest = after;
    }
    found.then_some(out)
}

/// Reads a line into `line`, without its end; one longer than the limit is cut, its rest passed
/// over. `false` at the end of the file.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    // One byte more than allowed, to tell that there were more.
    let read = (&mut *input)
        .take(LINE_BYTES as u64 + 1)
        .read_until(b'\n', line)?;
    if read == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_BYTES {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}
