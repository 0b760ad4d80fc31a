//! Tokenizes and packs what a recipe names, once, into a directory.
//!
//! A file is written whole, aside, then renamed; after each `progress.json` says how far it came.
//! So a pack that was interrupted goes on where the last whole file ended.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, ListArray, RecordBatch, UInt16Array, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use retort_files::AtomicFile;
use serde::{Deserialize, Serialize};

use super::index::{INDEX, Index, IndexSource, STATE, VALIDATION, VERSION, file_name};
use crate::config::DataConfig;
use crate::cursor::{Identity, SourceCursor};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::progress::DocumentProgress;
use crate::row::Row;
use crate::stats::Stats;
use retort_tokenizer::Tokenizer;

/// Rows in a record batch.
const ROWS_A_BATCH: usize = 1 << 10;

/// What became of the text.
#[derive(Clone, Debug, Serialize)]
pub struct PackReport {
    /// Rows of all sources.
    pub rows: usize,
    /// Inputs in a row.
    pub seq_len: usize,
    /// Held-out rows.
    pub validation_rows: usize,
    /// Tokens used, cropped, padded; documents left out.
    #[serde(flatten)]
    pub stats: Stats,
}

/// How far an unfinished pack has come.
#[derive(Serialize, Deserialize)]
struct PackState {
    identity: Identity,
    rows_a_file: usize,
    /// Sources that are whole.
    done: Vec<IndexSource>,
    /// Rows of the next one in whole files.
    rows: usize,
    cursor: SourceCursor,
}

/// Packs one epoch of each source of `config` into `directory`, in files of `rows_a_file` rows
/// ([`ROWS_A_FILE`](super::ROWS_A_FILE) unless there is a reason). One that holds an unfinished pack of
/// the same data is gone on with.
///
/// # Errors
///
/// Any error of reading or tokenizing; [`Error::Pretokenized`] if `directory` holds something else.
pub fn pack(
    config: &DataConfig,
    tokenizer: &Arc<Tokenizer>,
    directory: &Path,
    rows_a_file: usize,
    progress: &dyn Fn(DocumentProgress),
) -> Result<PackReport> {
    if rows_a_file == 0 {
        return Err(Error::config("rows_a_file", "is 0; give at least 1"));
    }
    let unfinished = unfinished(directory)?;
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let data = Data::open(config, tokenizer, Some(directory), None, progress)?;
    let identity = data.identity().clone();
    let mut state = unfinished.unwrap_or_else(|| PackState::start(identity.clone(), rows_a_file));
    if state.identity != identity || state.rows_a_file != rows_a_file {
        return Err(Error::pretokenized(
            directory,
            "holds an unfinished pack of other data or settings; remove it, or name \
             another directory",
        ));
    }
    state.save(directory)?;
    let form = RowSchema::new(tokenizer.vocab_size(), config.seq_len);
    let sources = config.sources();
    while let Some(source) = sources.get(state.done.len()) {
        pack_source(&data, directory, &form, &mut state, progress)?;
        let whole = IndexSource {
            source: source.source.clone(),
            weight: source.weight,
            rows: state.rows,
            stats: state.cursor.stats,
        };
        state.done.push(whole);
        state.rows = 0;
        state.cursor = SourceCursor::default();
        state.save(directory)?;
    }
    let validation = data.validation().rows();
    if !validation.is_empty() {
        form.write(&directory.join(VALIDATION), validation)?;
    }
    tokenizer.save(directory)?;
    let index = Index {
        version: VERSION,
        seq_len: config.seq_len,
        packing: config.packing,
        eot: tokenizer.eot(),
        vocab_size: tokenizer.vocab_size(),
        identity,
        sources: state.done,
        validation_rows: validation.len(),
        rows_a_file,
    };
    let json = serde_json::to_vec_pretty(&index).expect("an index serializes");
    let path = directory.join(INDEX);
    retort_files::write(&path, &json).map_err(Error::io(&path))?;
    let state = directory.join(STATE);
    std::fs::remove_file(&state).map_err(Error::io(&state))?;
    let mut stats = Stats::default();
    index.sources.iter().for_each(|s| stats += s.stats);
    Ok(PackReport {
        rows: index.sources.iter().map(|s| s.rows).sum(),
        seq_len: index.seq_len,
        validation_rows: index.validation_rows,
        stats,
    })
}

/// Writes the files of the next source, from the last whole one on.
fn pack_source(
    data: &Data,
    directory: &Path,
    form: &RowSchema,
    state: &mut PackState,
    progress: &dyn Fn(DocumentProgress),
) -> Result<()> {
    let source = state.done.len();
    let files = directory.join(source.to_string());
    std::fs::create_dir_all(&files).map_err(Error::io(&files))?;
    let mut stream = data.stream(source, &state.cursor)?;
    loop {
        let mut rows = Vec::new();
        let mut whole = true;
        while rows.len() < state.rows_a_file {
            let Some(row) = stream.packed_row()? else {
                whole = false;
                break;
            };
            rows.push(row);
            if rows.len().is_multiple_of(64) {
                progress(stream.progress("packing"));
            }
        }
        if !rows.is_empty() {
            form.write(
                &directory.join(file_name(source, state.rows / state.rows_a_file)),
                &rows,
            )?;
        }
        state.rows += rows.len();
        state.cursor = stream.cursor();
        if !whole {
            return Ok(());
        }
        state.save(directory)?;
    }
}

/// What `directory` holds of an earlier, unfinished pack; an error if it holds anything else.
fn unfinished(directory: &Path) -> Result<Option<PackState>> {
    let bad = |reason: String| Error::pretokenized(directory, reason);
    if Index::is_in(directory) {
        return Err(bad(
            "holds packed data already; name another directory".into()
        ));
    }
    if let Ok(bytes) = std::fs::read(directory.join(STATE)) {
        let state = serde_json::from_slice(&bytes);
        return state
            .map(Some)
            .map_err(|e| bad(format!("{STATE} is damaged ({e}); remove the directory")));
    }
    match std::fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(bad("is not empty; name a new directory".into())),
        _ => Ok(None),
    }
}

impl PackState {
    fn start(identity: Identity, rows_a_file: usize) -> Self {
        Self {
            identity,
            rows_a_file,
            done: Vec::new(),
            rows: 0,
            cursor: SourceCursor::default(),
        }
    }

    fn save(&self, directory: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).expect("the state serializes");
        let path = directory.join(STATE);
        retort_files::write(&path, &json).map_err(Error::io(&path))
    }
}

/// The columns of a row file.
struct RowSchema {
    schema: Arc<Schema>,
    /// Ids in 16 bits.
    short: bool,
    /// Ids in a row.
    width: usize,
}

impl RowSchema {
    fn new(vocab_size: usize, seq_len: usize) -> Self {
        let short = vocab_size <= usize::from(u16::MAX) + 1;
        let kind = if short {
            DataType::UInt16
        } else {
            DataType::UInt32
        };
        let width = seq_len + 1;
        let item = Arc::new(Field::new("item", kind, false));
        let start = Arc::new(Field::new("item", DataType::UInt32, false));
        let fields = vec![
            Field::new("ids", DataType::FixedSizeList(item, width as i32), false),
            Field::new("length", DataType::UInt32, false),
            Field::new("starts", DataType::List(start), false),
        ];
        Self {
            schema: Arc::new(Schema::new(fields)),
            short,
            width,
        }
    }

    /// Writes `rows` to `path`, whole or not at all.
    fn write(&self, path: &Path, rows: &[Row]) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let failed = |e: ArrowError| std::io::Error::other(e.to_string());
            let mut file = AtomicFile::create(path)?;
            let buffer = BufWriter::new(file.as_file());
            let mut writer = FileWriter::try_new(buffer, &self.schema).map_err(failed)?;
            for rows in rows.chunks(ROWS_A_BATCH) {
                let batch = self.batch(rows).map_err(failed)?;
                writer.write(&batch).map_err(failed)?;
            }
            writer.into_inner().map_err(failed)?.flush()?;
            file.commit()
        };
        write().map_err(Error::io(path))
    }

    fn batch(&self, rows: &[Row]) -> std::result::Result<RecordBatch, ArrowError> {
        let padded = rows.iter().flat_map(|row| {
            let fill = row.ids.last().copied().unwrap_or(0);
            let padding = std::iter::repeat_n(fill, self.width - row.ids.len());
            row.ids.iter().copied().chain(padding)
        });
        let ids: ArrayRef = if self.short {
            // Ids are below the vocabulary's size, which fits.
            Arc::new(UInt16Array::from_iter_values(padded.map(|id| id as u16)))
        } else {
            Arc::new(UInt32Array::from_iter_values(padded))
        };
        let item = |i: usize| match self.schema.field(i).data_type() {
            DataType::FixedSizeList(item, _) | DataType::List(item) => item.clone(),
            other => unreachable!("a list, not {other}"),
        };
        let ids = FixedSizeListArray::try_new(item(0), self.width as i32, ids, None)?;
        let lengths = UInt32Array::from_iter_values(rows.iter().map(|r| r.ids.len() as u32));
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|r| r.starts.len()));
        let starts = rows.iter().flat_map(|r| r.starts.iter().copied());
        let starts = Arc::new(UInt32Array::from_iter_values(starts));
        let starts = ListArray::try_new(item(2), offsets, starts, None)?;
        RecordBatch::try_new(
            self.schema.clone(),
            vec![Arc::new(ids), Arc::new(lengths), Arc::new(starts)],
        )
    }
}
