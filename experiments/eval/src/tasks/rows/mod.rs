//! Data files to rows: JSON (gzipped too), comma-separated values, plain text and parquet.
//!
//! In: a file. Out: rows, each a JSON object of its columns, handed to a callback until that breaks.
//! Memory is bounded by the file's own size.

mod csv;
mod json;
mod parquet;
mod row_sink;
mod text;

use std::ops::ControlFlow;
use std::path::Path;

use regex::Regex;

use super::task::{Format, Source};
use crate::error::Result;

pub(super) use row_sink::OnRow;

/// The format of `path`: as `source` says, else by the name's extension.
pub(super) fn format(path: &Path, source: &Source) -> Option<Format> {
    let unpacked = if json::is_gzipped(path) {
        Path::new(path.file_stem()?)
    } else {
        path
    };
    let extension = unpacked.extension().and_then(|e| e.to_str());
    source.format.or(match extension {
        Some("jsonl" | "json") => Some(Format::Json),
        Some("csv") => Some(Format::Csv),
        Some("parquet") => Some(Format::Parquet),
        Some("txt" | "raw") => Some(Format::Text),
        _ => None,
    })
}

/// Hands the rows of `path` to `on_row`; breaks when that does.
pub(super) fn read(
    path: &Path,
    format: Format,
    rows_key: Option<&str>,
    row_starts: Option<&Regex>,
    on_row: &mut OnRow<'_>,
) -> Result<ControlFlow<()>> {
    match format {
        Format::Json => json::read(path, rows_key, on_row),
        Format::Csv => csv::read(path, on_row),
        Format::Parquet => parquet::read(path, on_row),
        Format::Text => text::read(path, row_starts, on_row),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::tasks::template::Row;

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
        let rows_key = source.rows.as_deref();
        let end = read(&path, format, rows_key, starts.as_ref(), &mut |row| {
            found.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        assert!(end.is_continue());
        Ok(found)
    }

    #[test]
    fn json_is_read_as_lines_and_as_an_array_of_objects() {
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
    fn json_rows_under_a_key_and_gzipped_json_are_read() {
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
    fn csv_header_names_columns_and_quoted_fields_are_unquoted() {
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
    fn text_is_cut_into_rows_that_keep_every_line() {
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
