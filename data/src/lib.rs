//! Text in, batches of token ids out.
//!
//! ```text
//! SOURCE ─► Shards ─► Reader ─► ShardWalker ─► Window ─► TokenWindow ─► Concat, BestFit ─► Row ─┐
//! files,    on disk    text     epoch order    shuffle   ids, all        packing                │
//! hf://     in time    column                            threads                                ▼
//! pretokenized directory ─► PretokenizedRows ──────────────────────────────────► Batches ─► Loader
//!                           memory map                                           mixture    thread
//! ```
//!
//! Shards are parquet or JSON-lines files in C4's layout: a string `text`, and other columns
//! (`timestamp`, `url`), which are never read. The hash of a document's text alone decides whether
//! it is for training or for validation. Only a few windows of text are held in memory. A
//! [`Cursor`] of a few hundred bytes names any position in the endless sequence of batches. The
//! sequence depends on the data, the tokenizer, `[data]` and the seed, not on threads or ranks.
//!
//! [`stories`] generates a small corpus with a known entropy, for demonstrations and tests.
//!
//! ```
//! use std::sync::Arc;
//! use retort_data::{Shards, SourceOptions, documents, stories, train_tokenizer};
//!
//! # let dir = tempfile::tempdir()?;
//! stories::write_parquet(dir.path(), &stories::generate(1, 60), 2)?;
//! let source = dir.path().to_string_lossy();
//! let shards = Arc::new(Shards::resolve(&source, &SourceOptions::default())?);
//! assert_eq!(documents(&shards).count(), 60);
//! let tokenizer = train_tokenizer(&shards, 300, &|_| ())?;
//! assert_eq!(tokenizer.vocab_size(), 300);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows nothing of models; of the workspace it depends on `retort-tokenizer` alone.

mod batch;
mod batches;
mod best_fit;
mod catch_panic;
mod concat;
mod config;
mod cursor;
mod data;
mod documents;
mod duplicates;
mod epoch_order;
mod error;
mod eval_rows;
mod filter;
mod hub;
mod inspect;
mod loader;
mod open;
mod permutation;
mod pretokenized;
mod progress;
mod read;
mod row;
mod shuffle_window;
mod source;
mod source_options;
mod split;
mod stats;
pub mod stories;
mod stream;
mod train_tokenizer;

pub use batch::{Batch, BatchSource};
pub use batches::{Batches, Rank};
pub use catch_panic::catch_panic;
pub use config::{DataConfig, Filter, OnDamage, Packing, Weighted};
pub use cursor::Cursor;
pub use data::Data;
pub use documents::documents;
pub use error::{Error, Result};
pub use eval_rows::EvalRows;
pub use hub::HubConfig;
pub use inspect::{Column, Inspection, ShardInfo, inspect};
pub use loader::{Loaded, Loader};
pub use pretokenized::{PackReport, ROWS_A_FILE, pack, pretokenized_rows};
pub use progress::DocumentProgress;
pub use read::check_parquet_footer;
pub use row::Row;
pub use source::{ShardLease, Shards};
pub use source_options::SourceOptions;
pub use split::is_validation;
pub use stats::Stats;
pub use train_tokenizer::train_tokenizer;
