//! Text in, batches of token ids out.
//!
//! ```text
//! SOURCE ─► Shards ─► Reader ─► Walk ─► Window ─► TokenWindow ─► Concat, BestFit ─► Row ─┐
//! files,    on disk    text     order   shuffle   ids, all       packing                 │
//! hf://     in time    column                     threads                                ▼
//! packed directory ─► PackedRows ───────────────────────────────────────────► Batches ─► Loader
//!                     memory map                                              mixture    thread
//! ```
//!
//! Shards are parquet or JSON-lines files in C4's layout: a string `text`, and whatever else lies
//! beside it (`timestamp`, `url`), which is never read. A document goes to training or to validation
//! by the hash of its text alone. Nothing but a few windows of text is held in memory, and a
//! [`Cursor`] of a few hundred bytes names any place in the endless sequence of batches; the
//! sequence depends on the data, the tokenizer, `[data]` and the seed, not on threads or ranks.
//!
//! [`stories`] generates a small corpus with a known entropy, for demonstrations and tests.
//!
//! This crate knows nothing of models and depends on no other crate of the workspace.

mod batches;
mod best_fit;
mod concat;
mod config;
mod counts;
mod cursor;
mod data;
mod duplicates;
mod error;
mod filter;
mod guard;
mod hub;
mod inspect;
mod loader;
mod order;
mod packed;
mod progress;
mod read;
mod row;
mod row_set;
mod source;
mod split;
pub mod stories;
mod stream;
mod tokenizer;
mod train_tokenizer;
mod window;

pub use batches::{Batch, Batches, Rank};
pub use config::{DataConfig, Filter, OnDamage, Packing, Weighted};
pub use counts::Counts;
pub use cursor::Cursor;
pub use data::Data;
pub use error::{Error, Result};
pub use guard::guarded;
pub use hub::HubConfig;
pub use inspect::{Column, Inspection, ShardInfo, TimestampKind, inspect};
pub use loader::{Loaded, Loader};
pub use order::documents;
pub use packed::{PackReport, ROWS_A_FILE, pack, packed_rows};
pub use progress::Progress;
pub use row::Row;
pub use row_set::RowSet;
pub use source::{HeldShard, Shards, SourceOptions};
pub use split::is_validation;
pub use tokenizer::{Tokenizer, convert, convert_sentencepiece, convert_tiktoken};
pub use train_tokenizer::train_tokenizer;
