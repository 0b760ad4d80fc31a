//! Data files to rows: JSON (gzipped too), comma-separated values, plain text and parquet.
//!
//! In: a file; out: rows, each a JSON object of its columns, handed on one by one until the taker
//! has enough. What is read at once is bounded by the file's own size.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use csv_core::ReadRecordResult;
use flate2::read::MultiGzDecoder;
use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use regex::Regex;
use retort_data::catch_panic;
use serde_json::Value;

use super::error::{Error, Result};
use super::task::{Format, Source};
use super::template::Row;

/// Bytes that a gzipped file may come to.
const MOST_UNPACKED: u64 = 1 << 30;

/// Who takes rows.
type Taker<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>> + 'a;

/// How `path` is read: as `source` says, else by its name.
pub(super) fn format(path: &Path, source: &Source) -> Option<Format> {
    let unpacked = if packed(path) {
        Path::new(path.file_stem()?)
    } else {
        path
    };
    let ending = unpacked.extension().and_then(|e| e.to_str());
    source.format.or(match ending {
        Some("jsonl" | "json") => Some(Format::Json),
        Some("csv") => Some(Format::Csv),
        Some("parquet") => Some(Format::Parquet),
        Some("txt" | "raw") => Some(Format::Text),
        _ => None,
    })
}

/// Whether a file is gzipped, by its name.
fn packed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

/// Hands the rows of `path` to `take`; breaks when that does.
pub(super) fn read(
    path: &Path,
    format: Format,
    rows: Option<&str>,
    row_starts: Option<&Regex>,
    take: &mut Taker<'_>,
) -> Result<ControlFlow<()>> {
    match format {
        Format::Json => json(path, rows, take),
        Format::Csv => csv(path, take),
        Format::Parquet => parquet(path, take),
        Format::Text => text(path, row_starts, take),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(path, "open it", e))
}

fn wrong(path: &Path, place: String, reason: impl ToString) -> Error {
    Error::Data {
        path: path.to_owned(),
        place,
        reason: reason.to_string().replace('\n', " "),
    }
}

fn object(path: &Path, place: impl Fn() -> String, value: Value) -> Result<Row> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err(wrong(path, place(), "must be a JSON object of columns")),
    }
}

/// An object a line, or one array of objects, or one object that has such an array under the key `rows`.
fn json(path: &Path, rows: Option<&str>, take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    let failed = |e| Error::io(path, "read it", e);
    let file = open(path)?;
    let mut input: Box<dyn BufRead> = match packed(path) {
        true => Box::new(BufReader::new(
            MultiGzDecoder::new(file).take(MOST_UNPACKED),
        )),
        false => Box::new(BufReader::new(file)),
    };
    if let Some(key) = rows {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(failed)?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut whole: Row =
            serde_json::from_slice(text).map_err(|e| wrong(path, "the object".into(), e))?;
        return match whole.remove(key) {
            Some(Value::Array(rows)) => objects(path, rows, take),
            _ => Err(wrong(path, key.into(), "is no list in it")),
        };
    }
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if number == 1 && text.starts_with(b"[") {
            input.read_to_end(&mut line).map_err(failed)?;
            return array(path, &line, take);
        }
        let place = || format!("line {number}");
        let value = serde_json::from_slice(text).map_err(|e| wrong(path, place(), e))?;
        if take(object(path, place, value)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn array(path: &Path, bytes: &[u8], take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let rows: Vec<Value> =
        serde_json::from_slice(bytes).map_err(|e| wrong(path, "the array".into(), e))?;
    objects(path, rows, take)
}

fn objects(path: &Path, rows: Vec<Value>, take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    for (index, value) in rows.into_iter().enumerate() {
        if take(object(path, || format!("row {index}"), value)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Every column is text; the first record names them. A byte-order mark is passed over.
fn csv(path: &Path, take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    let mut bytes = std::fs::read(path).map_err(|e| Error::io(path, "read it", e))?;
    bytes.push(b'\n');
    // No record is longer than the file, nor has more fields than the file has separators.
    let mut text = vec![0; bytes.len()];
    let mut ends = vec![0; bytes.iter().filter(|&&b| b == b',').count() + 2];
    let mut reader = csv_core::Reader::new();
    let mut rest = &bytes[..];
    let mut names: Option<Vec<String>> = None;
    loop {
        let line = reader.line();
        let place = || format!("line {line}");
        let (result, read, _, n) = reader.read_record(rest, &mut text, &mut ends);
        rest = &rest[read..];
        match result {
            ReadRecordResult::Record => {}
            ReadRecordResult::End => return Ok(ControlFlow::Continue(())),
            // Blank lines at the end leave nothing.
            ReadRecordResult::InputEmpty if n == 0 => continue,
            _ => return Err(wrong(path, place(), "a quote is not closed")),
        }
        let mut start = 0;
        let mut fields = Vec::with_capacity(n);
        for &end in &ends[..n] {
            let field = std::str::from_utf8(&text[start..end]);
            fields.push(field.map_err(|e| wrong(path, place(), e))?.to_owned());
            start = end;
        }
        let Some(names) = &names else {
            names = Some(fields);
            continue;
        };
        if fields.len() != names.len() {
            let reason = format!("{} fields under {} names", fields.len(), names.len());
            return Err(wrong(path, place(), reason));
        }
        let columns = names
            .iter()
            .cloned()
            .zip(fields.into_iter().map(Value::from));
        if take(columns.collect())?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// The whole file is a row, or begins one wherever a line matches. Blank ones are none.
fn text(path: &Path, starts: Option<&Regex>, take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    let whole =
        std::fs::read_to_string(path).map_err(|e| Error::io(path, "read it as UTF-8", e))?;
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
        if take(row)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn parquet(path: &Path, take: &mut Taker<'_>) -> Result<ControlFlow<()>> {
    let footer = |e: String| wrong(path, "footer".into(), e);
    let file = open(path)?;
    check_footer(path, &file)?;
    let mut rows = catch_panic(|| {
        let reader = SerializedFileReader::new(file)?;
        Ok::<_, parquet::errors::ParquetError>(RowIter::from_file_into(Box::new(reader)))
    })
    .map_err(footer)?;
    for index in 0.. {
        // After an error nothing more is asked of the reader.
        let row = catch_panic(|| rows.next().transpose());
        let Some(row) = row.map_err(|e| wrong(path, format!("row {index}"), e))? else {
            break;
        };
        let columns = row.into_columns().into_iter();
        if take(columns.map(|(name, field)| (name, value(field))).collect())?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The length that the last 8 bytes give the footer is allocated: it must be the file's.
fn check_footer(path: &Path, mut file: &File) -> Result<()> {
    let failed = |e| Error::io(path, "read it", e);
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut tail = [0; 8];
    if length >= 8 {
        file.seek(SeekFrom::End(-8)).map_err(failed)?;
        file.read_exact(&mut tail).map_err(failed)?;
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if length < 12 || footer > length - 8 || &tail[4..] != b"PAR1" {
        let reason = format!("{length} bytes that are no whole parquet file");
        return Err(wrong(path, "footer".into(), reason));
    }
    Ok(())
}

/// A parquet value as JSON; what has no place in a prompt, such as a date, is null.
fn value(field: Field) -> Value {
    match field {
        Field::Bool(b) => b.into(),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float(x) => x.into(),
        Field::Double(x) => x.into(),
        Field::Str(text) => text.into(),
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            Value::Object(columns.map(|(name, field)| (name, value(field))).collect())
        }
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn rows(name: &str, content: &[u8], starts: Option<&str>) -> Result<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let source = Source {
            files: vec![name.to_owned()],
            format: None,
            columns: Default::default(),
            rows: name.starts_with("object").then(|| "examples".into()),
            file_column: None,
            row_starts: None,
            join: None,
            keep: None,
        };
        let mut found = Vec::new();
        let starts = starts.map(|s| Regex::new(s).unwrap());
        let format = format(&path, &source).unwrap();
        let keyed = source.rows.as_deref();
        let end = read(&path, format, keyed, starts.as_ref(), &mut |row| {
            found.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        assert!(end.is_continue());
        Ok(found)
    }

    #[test]
    fn lines_and_arrays_of_objects() {
        let lines = rows("a.jsonl", b"\xef\xbb\xbf{\"q\": 1}\n\n{\"q\": [2]}", None).unwrap();
        let array = rows("a.json", b"[{\"q\": 1},\n{\"q\": [2]}]", None).unwrap();
        assert_eq!(lines, array);
        assert_eq!(lines[1]["q"][0], 2);
        for (bad, says) in [
            (&b"{\"q\": 1}\n{\"q\": "[..], "line 2: EOF"),
            (b"3", "line 1: must be a JSON object"),
            (b"[1]", "row 0: must be"),
            (b"[{}", "the array: EOF"),
            (b"{\"a\": \"\xff\"}", "line 1: invalid unicode"),
        ] {
            let error = rows("a.jsonl", bad, None).unwrap_err().to_string();
            assert!(
                error.contains("a.jsonl: ") && error.contains(says),
                "{error}"
            );
        }
    }

    #[test]
    fn an_object_may_hold_the_rows_and_a_file_be_gzipped() {
        let text = br#"{"note": "x", "examples": [{"q": 1}, {"q": 2}]}"#;
        assert_eq!(rows("object.json", text, None).unwrap()[1]["q"], 2);
        for (bad, says) in [
            (&br#"{"rows": []}"#[..], "examples: is no list in it"),
            (br#"{"examples": 3}"#, "examples: is no list in it"),
            (b"[", "the object"),
        ] {
            let error = rows("object.json", bad, None).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, b"{\"q\": 1}\n{\"q\": 2}\n").unwrap();
        let bytes = gzip.finish().unwrap();
        assert_eq!(rows("a.jsonl.gz", &bytes, None).unwrap()[1]["q"], 2);
        assert!(rows("a.jsonl.gz", &bytes[..bytes.len() - 9], None).is_err());
    }

    #[test]
    fn csv_has_names_and_quotes() {
        let csv = b"\xef\xbb\xbfBest Answer,b\n\"x, y\n\",2\n";
        let found = rows("a.csv", csv, None).unwrap();
        assert_eq!(found[0]["Best Answer"], "x, y\n");
        assert_eq!(found[0]["b"], "2");
        assert_eq!(
            rows("a.csv", b"a,b\r\n1,2\r\n3,", None).unwrap()[1]["b"],
            ""
        );
        assert_eq!(rows("a.csv", b"a\nx\n\n", None).unwrap().len(), 1);
        assert_eq!(rows("a.csv", b"", None).unwrap(), []);
        for (bad, says) in [
            (&b"a,b\n1\n"[..], "line 2: 1 fields under 2 names"),
            (b"a,b\n1,\"2\n3,4", "line 2: a quote is not closed"),
            (b"a\n\xff\n", "line 2: invalid utf-8"),
        ] {
            let error = rows("a.csv", bad, None).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn pages_of_text_keep_every_line() {
        let text = b" \n = One = \n\n = = Sub = = \nx = y =z\n = Two = \nlast\n";
        let starts = r"^\s*= [^=](.*[^=])? =\s*$";
        let found = rows("wiki.raw", text, Some(starts)).unwrap();
        let pages: Vec<_> = found
            .iter()
            .map(|row| row["text"].as_str().unwrap())
            .collect();
        assert_eq!(
            pages,
            [" = One = \n\n = = Sub = = \nx = y =z", " = Two = \nlast\n"]
        );
        assert_eq!(rows("a.txt", b"a\nb", None).unwrap()[0]["text"], "a\nb");
        assert!(rows("a.txt", b"\xff", None).is_err());
    }

    #[test]
    fn damaged_parquet_is_an_error() {
        for bytes in [
            &b""[..],
            b"PAR1",
            b"PAR1\xff\xff\xff\xffPAR1",
            b"PAR1....\x04\0\0\0PAR1",
        ] {
            assert!(rows("a.parquet", bytes, None).is_err());
        }
    }
}
