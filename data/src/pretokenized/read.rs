//! Memory-mapped row files, and a source's rows in an order that is new in each epoch.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, UInt16Type, UInt32Type};
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::root_as_footer;

use super::index::{Index, VALIDATION, file_name};
use crate::catch_panic::catch_panic;
use crate::cursor::SourceCursor;
use crate::epoch_order::Position;
use crate::error::{Error, Result};
use crate::permutation::permutation;
use crate::row::Row;

/// Bytes after the footer: its length and the magic.
const TRAILER: usize = 10;

/// The rows of one file.
pub(crate) struct RowFile {
    path: PathBuf,
    vocab_size: usize,
    batches: Vec<RecordBatch>,
    /// Rows before each batch, and of all.
    before: Vec<usize>,
}

impl RowFile {
    /// Maps `path`, and checks that its columns are rows as `index` describes them. Ids are
    /// checked as they are read.
    pub(crate) fn open(path: &Path, index: &Index) -> Result<Self> {
        let bad = |reason: String| Error::pretokenized(path, reason);
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the file is one that `pack` renamed into place whole and never writes again; a
        // program that truncates it while it is mapped gets this one killed, as with any map.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))?;
        let buffer = Buffer::from(bytes::Bytes::from_owner(map));
        let batches = catch_panic(|| decode(&buffer)).map_err(bad)?;
        let mut before = vec![0];
        for batch in &batches {
            check(batch, index.seq_len).map_err(bad)?;
            before.push(before[before.len() - 1] + batch.num_rows());
        }
        Ok(Self {
            path: path.to_owned(),
            vocab_size: index.vocab_size,
            batches,
            before,
        })
    }

    /// Rows in the file.
    pub(crate) fn len(&self) -> usize {
        self.before[self.batches.len()]
    }

    /// Row `i`, which must be below [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// [`Error::Pretokenized`] if an id is not one of the vocabulary.
    pub(crate) fn row(&self, i: usize) -> Result<Row> {
        let at = self.before.partition_point(|&before| before <= i) - 1;
        let (batch, i) = (&self.batches[at], i - self.before[at]);
        let ids = batch.column(0).as_fixed_size_list();
        let width = ids.value_length() as usize;
        let length = batch.column(1).as_primitive::<UInt32Type>().value(i) as usize;
        let range = i * width..i * width + length.min(width);
        let ids: Vec<u32> = match ids.values().data_type() {
            DataType::UInt16 => ids.values().as_primitive::<UInt16Type>().values()[range]
                .iter()
                .map(|&id| u32::from(id))
                .collect(),
            _ => ids.values().as_primitive::<UInt32Type>().values()[range].to_vec(),
        };
        let starts = batch.column(2).as_list::<i32>().value(i);
        if ids.iter().any(|&id| id as usize >= self.vocab_size) {
            return Err(Error::pretokenized(
                self.path.clone(),
                format!("row {i} has an id outside the vocabulary: pack it again"),
            ));
        }
        Ok(Row {
            ids,
            starts: starts.as_primitive::<UInt32Type>().values().to_vec(),
        })
    }
}

/// The record batches of an IPC file, whose columns point into `buffer`.
fn decode(buffer: &Buffer) -> std::result::Result<Vec<RecordBatch>, String> {
    let cut = || "is cut off".to_owned();
    let text = |e: arrow::error::ArrowError| e.to_string();
    let end = buffer.len().checked_sub(TRAILER).ok_or_else(cut)?;
    let trailer = buffer[end..].try_into().map_err(|_| cut())?;
    let length = read_footer_length(trailer).map_err(text)?;
    let start = end.checked_sub(length).ok_or_else(cut)?;
    let footer = root_as_footer(&buffer[start..end]).map_err(|e| e.to_string())?;
    let schema = try_fb_to_schema(footer.schema().ok_or("has no schema")?).map_err(text)?;
    let mut decoder = FileDecoder::new(Arc::new(schema), footer.version());
    // A buffer that is not aligned is refused rather than copied.
    decoder = decoder.with_require_alignment(true);
    let mut batches = Vec::new();
    for block in footer.recordBatches().iter().flatten() {
        let offset = usize::try_from(block.offset()).map_err(|_| cut())?;
        let head = usize::try_from(block.metaDataLength()).map_err(|_| cut())?;
        let body = usize::try_from(block.bodyLength()).map_err(|_| cut())?;
        let length = head.checked_add(body).ok_or_else(cut)?;
        if offset.checked_add(length).is_none_or(|end| end > start) {
            return Err(cut());
        }
        let data = buffer.slice_with_length(offset, length);
        let batch = decoder.read_record_batch(block, &data).map_err(text)?;
        batches.push(batch.ok_or("has a block that is no record batch")?);
    }
    Ok(batches)
}

/// What is wrong with a batch that is not rows of `seq_len + 1` ids.
fn check(batch: &RecordBatch, seq_len: usize) -> std::result::Result<(), String> {
    let width = i32::try_from(seq_len + 1).map_err(|e| e.to_string())?;
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let typed = names == ["ids", "length", "starts"]
        && matches!(schema.field(0).data_type(), DataType::FixedSizeList(item, n)
            if *n == width && matches!(item.data_type(), DataType::UInt16 | DataType::UInt32))
        && *schema.field(1).data_type() == DataType::UInt32
        && matches!(schema.field(2).data_type(), DataType::List(item)
            if *item.data_type() == DataType::UInt32);
    if !typed {
        return Err(format!("its columns are not rows of {width} ids"));
    }
    let nulls = batch.columns().iter().any(|column| column.null_count() > 0);
    let lengths = batch.column(1).as_primitive::<UInt32Type>().values();
    let whole = lengths.iter().all(|&n| n >= 1 && n <= width as u32);
    if nulls || !whole {
        return Err("a row is empty or longer than it may be".into());
    }
    Ok(())
}

/// Up to `most` held-out rows of a pretokenized directory.
pub(crate) fn validation_rows(directory: &Path, index: &Index, most: usize) -> Result<Vec<Row>> {
    if index.validation_rows == 0 || most == 0 {
        return Ok(Vec::new());
    }
    let path = directory.join(VALIDATION);
    let file = RowFile::open(&path, index)?;
    if file.len() != index.validation_rows {
        return Err(Error::pretokenized(
            path,
            "does not hold the rows that pack.json names",
        ));
    }
    (0..most.min(file.len())).map(|i| file.row(i)).collect()
}

/// A source's rows, endlessly, in a new order each epoch.
pub(crate) struct PretokenizedRows {
    files: Arc<Vec<RowFile>>,
    seed: u64,
    epoch: u64,
    order: Vec<u32>,
    /// Rows of the epoch already taken.
    next: usize,
    /// Rows taken from the start.
    rows: u64,
}

impl PretokenizedRows {
    /// Maps the files of source `source` in a packed directory.
    pub(crate) fn files(directory: &Path, index: &Index, source: usize) -> Result<Vec<RowFile>> {
        let (rows, each) = (index.sources[source].rows, index.rows_a_file);
        let files: Vec<RowFile> = (0..rows.div_ceil(each))
            .map(|i| RowFile::open(&directory.join(file_name(source, i)), index))
            .collect::<Result<_>>()?;
        let in_place = files
            .iter()
            .enumerate()
            .all(|(i, file)| file.len() == each.min(rows - i * each));
        if rows == 0 || !in_place || u32::try_from(rows).is_err() {
            return Err(Error::pretokenized(
                directory.join(source.to_string()),
                format!("its files do not hold the {rows} rows that pack.json names"),
            ));
        }
        Ok(files)
    }

    /// Goes on from `cursor`; the default one is the start.
    pub(crate) fn new(files: Arc<Vec<RowFile>>, seed: u64, cursor: &SourceCursor) -> Self {
        let rows = files.iter().map(RowFile::len).sum();
        let epoch = cursor.position.epoch;
        Self {
            order: permutation(rows, seed, [0, epoch, 0]),
            files,
            seed,
            epoch,
            next: cursor.skip as usize,
            rows: cursor.rows,
        }
    }

    pub(crate) fn next_row(&mut self) -> Result<Row> {
        if self.next >= self.order.len() {
            self.epoch += 1;
            self.next = 0;
            self.order = permutation(self.order.len(), self.seed, [0, self.epoch, 0]);
        }
        let row = self.order[self.next] as usize;
        self.next += 1;
        self.rows += 1;
        let each = self.files[0].len();
        self.files[row / each].row(row % each)
    }

    pub(crate) fn cursor(&self) -> SourceCursor {
        SourceCursor {
            position: Position {
                epoch: self.epoch,
                ..Position::default()
            },
            skip: self.next as u64,
            rows: self.rows,
            ..SourceCursor::default()
        }
    }
}
