//! Parquet shards: only the `text` column, row group by row group, a batch of rows at a time.
//!
//! Only `text` is decoded (Arrow's projection), so the types of the other columns do not matter:
//! C4's `timestamp` may be a timestamp of any unit, a string, all null, or absent. Source:
//! <https://parquet.apache.org/docs/file-format/>, read by the `parquet` crate.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::CompressionCodec;

use super::segment_rows::SegmentRows;
use crate::catch_panic::catch_panic;
use crate::error::{Error, Result};

/// Rows decoded at a time: a fraction of a megabyte of web text. A row group is always read in
/// batches that start at multiples of this, wherever reading starts, so that damage in it takes the
/// same rows away.
const BATCH_ROWS: u64 = 128;
/// Bytes of text a batch may come to: 128 documents of 2 MiB.
const BATCH_BYTES: usize = 256 << 20;
/// The codecs that `parquet`'s features, in the workspace's `Cargo.toml`, have it read.
const CODECS: &str = "none, snappy, gzip, lz4 and zstd";
/// Bytes a footer may take: 100,000 row groups of a few columns.
const FOOTER_BYTES: u64 = 256 << 20;

/// An open parquet file whose footer has been read and whose `text` column is a string.
pub(crate) struct Parquet {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Index of `text` among the top-level columns.
    text: usize,
}

impl Parquet {
    /// Opens `path` and checks its schema.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`] for a damaged footer, [`Error::NoText`],
    /// [`Error::TextType`] and [`Error::Codec`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let footer = |cause| Error::Parquet {
            path: path.to_owned(),
            place: "footer".into(),
            cause,
        };
        let checked = check_parquet_footer(&file).map_err(Error::io(path))?;
        checked.map_err(footer)?;
        let metadata =
            catch_panic(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()))
                .map_err(footer)?;
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
        let parquet = Self {
            path: path.to_owned(),
            metadata,
            text,
        };
        parquet.check_codec()?;
        Ok(parquet)
    }

    /// Refuses a file that is sound but compressed in a way that this build does not read.
    fn check_codec(&self) -> Result<()> {
        let schema = self.metadata.parquet_schema();
        let of_text = |leaf: &usize| schema.get_column_root_idx(*leaf) == self.text;
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(of_text).collect();
        let groups = self.metadata.metadata().row_groups().iter();
        let chunks = groups.flat_map(|group| {
            leaves
                .iter()
                .filter_map(move |&leaf| group.columns().get(leaf))
        });
        let mut codecs = chunks.map(|chunk| chunk.compression_codec());
        let unread = |codec: &_| matches!(codec, CompressionCodec::LZO | CompressionCodec::BROTLI);
        match codecs.find(unread) {
            Some(codec) => Err(Error::Codec {
                path: self.path.clone(),
                codec: format!("{codec:?}").to_lowercase(),
                read: CODECS,
            }),
            None => Ok(()),
        }
    }

    /// Row groups in the file.
    pub(crate) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Rows in the file, as its footer says.
    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The columns, as Arrow sees them.
    pub(crate) fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    /// The documents of row group `group` from row `skip` on.
    pub(super) fn rows(&self, group: usize, skip: u64) -> Result<SegmentRows> {
        let first = skip - skip % BATCH_ROWS;
        // Opened anew: a clone would share its place in the file with other readers.
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let damage = Damage {
            path: self.path.clone(),
            group,
        };
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [self.text]);
        let batches = catch_panic(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS as usize)
                .with_offset(usize::try_from(first).unwrap_or(usize::MAX))
                .build()
        })
        .map_err(|cause| damage.error(cause))?;
        Ok(Box::new(RowGroup {
            batches: Some(batches),
            batch: None,
            next: 0,
            row: first,
            skip,
            damage,
        }))
    }
}

/// Whether the length in the last 8 bytes of a parquet file can be its footer's, or what to say: a
/// reader allocates as many bytes as they ask for.
///
/// # Errors
///
/// The file cannot be read.
pub fn check_parquet_footer(mut file: &File) -> std::io::Result<std::result::Result<(), String>> {
    let len = file.metadata()?.len();
    let mut tail = [0; 8];
    if len >= 8 {
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut tail)?;
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if footer > len || footer > FOOTER_BYTES {
        let reason = format!("says that it takes {footer} of the file's {len} bytes");
        return Ok(Err(reason));
    }
    Ok(Ok(()))
}

/// A row group being read.
struct RowGroup {
    batches: Option<ParquetRecordBatchReader>,
    batch: Option<ArrayRef>,
    /// Next row in `batch`.
    next: usize,
    /// Row in the row group of the next row in `batch`.
    row: u64,
    /// Rows before this one are not given.
    skip: u64,
    damage: Damage,
}

impl Iterator for RowGroup {
    type Item = Result<(u64, Option<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = &self.batch {
                while self.next < batch.len() {
                    let (i, row) = (self.next, self.row);
                    self.next += 1;
                    self.row += 1;
                    if row >= self.skip {
                        return Some(Ok((row, text_at(batch, i).map(str::to_owned))));
                    }
                }
                self.batch = None;
            }
            let batches = self.batches.as_mut()?;
            match catch_panic(|| batches.next().transpose()) {
                Ok(Some(batch)) => {
                    let text = batch.column(0).clone();
                    let bytes = text.get_array_memory_size();
                    if bytes > BATCH_BYTES {
                        self.batches = None;
                        return Some(Err(self.damage.error(format!(
                            "{} documents take {bytes} bytes, more than the limit of {BATCH_BYTES}",
                            text.len()
                        ))));
                    }
                    self.batch = Some(text);
                    self.next = 0;
                }
                Ok(None) => self.batches = None,
                Err(cause) => {
                    self.batches = None;
                    return Some(Err(self.damage.error(cause)));
                }
            }
        }
    }
}

/// Where damage is.
struct Damage {
    path: PathBuf,
    group: usize,
}

impl Damage {
    fn error(&self, cause: String) -> Error {
        Error::Parquet {
            path: self.path.clone(),
            place: format!("row group {}, column `text`", self.group),
            cause,
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

/// `name: type, …` for messages.
fn columns(schema: &Schema) -> String {
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
