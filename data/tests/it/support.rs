//! Fixtures that the tests write themselves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use retort_data::{
    Batch, Cursor, Data, DataConfig, Rank, Result, Shards, stories, train_tokenizer,
};
use retort_tokenizer::Tokenizer;

/// Writes `columns` as one parquet file with row groups of `rows` rows.
pub fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, rows: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows));
    parquet_with(path, columns, properties.build());
}

fn parquet_with(path: &Path, columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Writes a shard with nothing but text, in row groups of `rows`.
pub fn text_shard<T: AsRef<str>>(path: &Path, texts: &[T], rows: usize) {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let column: ArrayRef = Arc::new(StringArray::from(texts));
    parquet(path, vec![("text", column)], rows);
}

/// Writes a shard with nothing but text, compressed with `codec`.
pub fn compressed_text_shard(path: &Path, texts: &[String], codec: Compression) {
    let column: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let properties = WriterProperties::builder().set_compression(codec);
    parquet_with(path, vec![("text", column)], properties.build());
}

/// Writes a shard of JSON lines in gzip.
pub fn json_shard<T: AsRef<str>>(path: &Path, texts: &[T]) {
    let file = std::fs::File::create(path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for (i, text) in texts.iter().enumerate() {
        let line = serde_json::json!({
            "url": format!("https://example.org/{i}"), "text": text.as_ref(), "timestamp": null,
        });
        writeln!(gzip, "{line}").unwrap();
    }
    gzip.finish().unwrap();
}

/// A few hundred stories in two shards.
pub fn story_shards(dir: &Path) -> Vec<PathBuf> {
    stories::write_parquet(dir, &stories::generate(1, 300), 2).unwrap()
}

/// A local source.
pub fn shards(source: &Path) -> Result<Arc<Shards>> {
    Shards::resolve(source.to_str().unwrap(), &Default::default()).map(Arc::new)
}

/// A small tokenizer trained on stories.
pub fn tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    story_shards(dir.path());
    train_tokenizer(&shards(dir.path()).unwrap(), 400, &|_| ()).unwrap()
}

/// `[data]` from what differs from the defaults.
pub fn config(fields: serde_json::Value) -> DataConfig {
    let mut all = serde_json::json!({ "tokenizer": "tokenizer.json", "seq_len": 32 });
    all.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// Opens `config` at the start.
pub fn open(config: &DataConfig, tokenizer: &Arc<Tokenizer>) -> Result<Data> {
    Data::open(config, tokenizer, None, None, &|_| ())
}

/// The next `n` batches from a cursor that went through JSON, and where they end.
pub fn take(
    data: &Data,
    batch_size: usize,
    rank: Rank,
    cursor: &Cursor,
    n: usize,
) -> (Vec<Batch>, Cursor) {
    let json = serde_json::to_string(cursor).unwrap();
    let cursor: Cursor = serde_json::from_str(&json).unwrap();
    let mut batches = data.batches(batch_size, rank, Some(&cursor)).unwrap();
    let taken = (0..n).map(|_| batches.next_batch().unwrap()).collect();
    (taken, batches.cursor())
}
