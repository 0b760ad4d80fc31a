//! Generated stories as parquet shards, and a byte-level BPE tokenizer trained on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use retort_data::{Shards, SourceOptions, stories, train_tokenizer};
use retort_tokenizer::Tokenizer;

/// Writes `n` stories in `shards` parquet files into `dir`; returns the files.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_corpus(dir: &Path, n: usize, shards: usize) -> Vec<PathBuf> {
    stories::write_parquet(dir, &stories::generate(1, n), shards).unwrap()
}

/// Trains a tokenizer of `vocabulary` tokens on the `corpus` directory and writes it into `dir`.
///
/// # Panics
///
/// If a file cannot be read or written.
pub fn write_tokenizer(dir: &Path, corpus: &Path, vocabulary: usize) -> Tokenizer {
    let shards = Shards::resolve(corpus.to_str().unwrap(), &SourceOptions::default()).unwrap();
    let tokenizer = train_tokenizer(&Arc::new(shards), vocabulary, &|_| {}).unwrap();
    std::fs::create_dir_all(dir).unwrap();
    tokenizer.save(dir).unwrap();
    tokenizer
}
