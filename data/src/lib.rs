//! Text in, batches of token ids out.
//!
//! ```text
//! SOURCE ─► resolve ─► documents ─► Tokenizer ─► load ─► Packed ─► Batches
//! glob, dir  paths     UTF-8 text    ids (u32)          u16/u32    [rows × seq_len] i32
//! ```
//!
//! Shards are parquet files in C4's layout: a string column `text`, and whatever else lies beside
//! it (`timestamp`, `url`), which is never read. A document goes to training or to validation by
//! the hash of its text alone. Token ids are concatenated with an end-of-text id after each
//! document and cut into rows of `seq_len` inputs and `seq_len` next-token targets; an epoch is a
//! permutation of the rows, and a [`Cursor`] names any place in the endless sequence of batches.
//!
//! [`stories`] generates a small corpus with a known entropy, for demonstrations and tests.
//!
//! This crate knows nothing of models and depends on no other crate of the workspace.

mod batches;
mod config;
mod documents;
mod encode;
mod error;
mod files;
mod inspect;
mod load;
mod packed;
mod source;
mod split;
pub mod stories;
mod tokenizer;
mod train_tokenizer;

pub use batches::{Batch, Batches, Cursor};
pub use config::DataConfig;
pub use documents::{Document, Documents, documents};
pub use encode::Progress;
pub use error::{Error, Result};
pub use inspect::{Column, Inspection, ShardInfo, TimestampKind, inspect, shard_info};
pub use load::{Dataset, Stats, load};
pub use packed::{Packed, Packer};
pub use source::resolve;
pub use split::is_validation;
pub use tokenizer::{Tokenizer, convert, convert_sentencepiece, convert_tiktoken};
pub use train_tokenizer::train_tokenizer;
