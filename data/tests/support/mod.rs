//! Fixtures that the tests write themselves.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use retort_data::{Tokenizer, stories, train_tokenizer};

/// Writes `columns` as one parquet file with row groups of `rows` rows.
pub fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, rows: usize) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Writes a shard with nothing but text.
pub fn text_shard(path: &Path, texts: &[&str]) {
    let column: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    parquet(path, vec![("text", column)], 1000);
}

/// A few hundred stories in two shards.
pub fn story_shards(dir: &Path) -> Vec<PathBuf> {
    stories::write_parquet(dir, &stories::generate(1, 300), 2).unwrap()
}

/// A small tokenizer trained on stories.
pub fn tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    train_tokenizer(&story_shards(dir.path()), 400, &|_| ()).unwrap()
}
