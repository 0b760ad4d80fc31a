//! Shards to documents: the `text` column of each parquet file, row group by row group, in bounded
//! batches, so that memory does not grow with the shard.
//!
//! Only `text` is decoded (Arrow's projection), so the types of the other columns do not matter:
//! C4's `timestamp` may be a timestamp of any unit, a string, all null, or absent. Source:
//! <https://parquet.apache.org/docs/file-format/>, read by the `parquet` crate.

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Result};

/// Rows decoded at a time: a few megabytes of web text.
const BATCH_ROWS: usize = 512;

/// One document and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text, valid UTF-8.
    pub text: String,
    /// Index of the shard in the resolved list.
    pub shard: usize,
    /// Row in the shard, counted over all its row groups, nulls included.
    pub row: u64,
}

/// Iterates over the documents of `paths` in order; rows whose text is null are skipped.
///
/// An error ends the iteration after it has been yielded.
pub fn documents(paths: &[PathBuf]) -> Documents {
    Documents {
        paths: paths.to_vec(),
        shard: 0,
        open: None,
        failed: false,
    }
}

/// The iterator that [`documents`] returns.
pub struct Documents {
    paths: Vec<PathBuf>,
    /// The shard being read, or the next to open.
    shard: usize,
    open: Option<Reading>,
    failed: bool,
}

/// An open shard and the place in it.
struct Reading {
    shard: Shard,
    row_group: usize,
    rows: Option<ParquetRecordBatchReader>,
    batch: Option<ArrayRef>,
    /// Next row in `batch`.
    next: usize,
    /// Row in the shard of the next row in `batch`.
    row: u64,
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl Documents {
    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            let Some(path) = self.paths.get(self.shard) else {
                return Ok(None);
            };
            let reading = match &mut self.open {
                Some(reading) => reading,
                closed => closed.insert(Reading::new(Shard::open(path)?)),
            };
            match reading.next()? {
                Some((row, text)) => {
                    return Ok(Some(Document {
                        text,
                        shard: self.shard,
                        row,
                    }));
                }
                None => {
                    self.open = None;
                    self.shard += 1;
                }
            }
        }
    }
}

impl Reading {
    fn new(shard: Shard) -> Self {
        Self {
            shard,
            row_group: 0,
            rows: None,
            batch: None,
            next: 0,
            row: 0,
        }
    }

    /// The next row whose text is not null.
    fn next(&mut self) -> Result<Option<(u64, String)>> {
        loop {
            if let Some(batch) = &self.batch {
                while self.next < batch.len() {
                    let (i, row) = (self.next, self.row);
                    self.next += 1;
                    self.row += 1;
                    if let Some(text) = text_at(batch, i) {
                        return Ok(Some((row, text.to_owned())));
                    }
                }
                self.batch = None;
            }
            if let Some(rows) = &mut self.rows {
                let batch = guarded(|| rows.next().transpose())
                    .map_err(|e| self.shard.damaged(self.row_group, e))?;
                if let Some(batch) = batch {
                    self.batch = Some(batch.column(0).clone());
                    self.next = 0;
                } else {
                    self.rows = None;
                    self.row_group += 1;
                }
            } else if self.row_group < self.shard.metadata.metadata().num_row_groups() {
                self.rows = Some(self.shard.row_group(self.row_group)?);
            } else {
                return Ok(None);
            }
        }
    }
}

/// The string at row `i`, or `None` if it is null.
fn text_at(column: &ArrayRef, i: usize) -> Option<&str> {
    if column.is_null(i) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(i)),
        DataType::Utf8View => Some(column.as_string_view().value(i)),
        _ => None,
    }
}

/// An open parquet file whose footer has been read and whose `text` column is a string.
pub(crate) struct Shard {
    path: PathBuf,
    file: File,
    pub(crate) metadata: ArrowReaderMetadata,
    /// Index of `text` among the top-level columns.
    text: usize,
}

impl Shard {
    /// Opens `path` and checks its schema.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`] for a damaged footer, [`Error::NoText`] and
    /// [`Error::TextType`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "open it", e))?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()))
            .map_err(|cause| Error::Parquet {
                path: path.to_owned(),
                place: "footer".into(),
                cause,
            })?;
        let schema = metadata.schema();
        let Some((text, field)) = schema.column_with_name("text") else {
            return Err(Error::NoText {
                path: path.to_owned(),
                columns: columns(schema),
            });
        };
        if !matches!(
            field.data_type(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        ) {
            return Err(Error::TextType {
                path: path.to_owned(),
                kind: field.data_type().to_string(),
                columns: columns(schema),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            text,
        })
    }

    fn row_group(&self, index: usize) -> Result<ParquetRecordBatchReader> {
        let file = self
            .file
            .try_clone()
            .map_err(|e| Error::io(&self.path, "read it", e))?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [self.text]);
        guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![index])
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS)
                .build()
        })
        .map_err(|cause| self.damaged(index, cause))
    }

    fn damaged(&self, row_group: usize, cause: String) -> Error {
        Error::Parquet {
            path: self.path.clone(),
            place: format!("row group {row_group}, column `text`"),
            cause,
        }
    }

    /// Rows in the shard, as its footer says.
    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }
}

/// Runs a step of the parquet reader and makes a panic in it an error: on some damaged pages the
/// reader divides by zero or slices out of range. The reader is not used again afterwards.
fn guarded<T, E: std::fmt::Display>(
    step: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, String> {
    match std::panic::catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("the reader failed on malformed data".into()),
    }
}

/// `name: type, …` for messages.
pub(crate) fn columns(schema: &Schema) -> String {
    let named: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| format!("`{}` ({})", f.name(), f.data_type()))
        .collect();
    if named.is_empty() {
        "no columns".into()
    } else {
        named.join(", ")
    }
}
