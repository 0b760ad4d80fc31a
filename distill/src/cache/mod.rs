//! A cache of teacher logits: what a teacher says about each row of a run, computed once.
//!
//! A cache is a directory, format version 1:
//!
//! ```text
//! cache.json             teacher, tokenizer, vocabulary, temperature, sparsification, rows, seed
//! logits-00000.parquet   row    u64     index of the row in the run's order
//! logits-00001.parquet   ids    u32     CRC-32C of the row's input ids
//!                        check  u32     CRC-32C of `logits`
//!                        logits binary  sparse distributions of the row's positions (`codec.rs`)
//! ```
//!
//! A shard holds consecutive rows. Its metadata names the first row, and the data's cursor after
//! the last, from which writing resumes. Several ranks write shards of their own into one
//! directory. The cache has the rows from the first up to the first gap; rows after a gap are
//! kept for when the gap is filled. Reading a row compares the checksum of its ids, so that
//! another text, seed or order is an error at the first row.
//!
//! Each position keeps either the k most likely ids and the mass of the others, or a random
//! sample whose expectation is the whole distribution (Anshumann et al., Sparse Logit Sampling,
//! arXiv 2503.16870). Training on the first has a biased gradient, on the second an unbiased one.

mod check;
mod codec;
mod format;
mod header;
mod rank_rows;
mod read;
mod shard_writer;
mod shards;
mod sparsify;
mod write;

pub use format::{RowFormat, Sparsification};
pub use read::LogitCache;
pub use write::{WriteOptions, WriteProgress, WriteSummary, write};
