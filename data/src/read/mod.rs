//! One shard to its documents, piece by piece: the `text` column of a parquet file, or the `text`
//! field of JSON lines.
//!
//! A shard has segments: a parquet file's row groups, or the whole of a JSON-lines file. A segment
//! is read from any row on, in bounded batches, so that memory does not grow with the shard.

mod json_lines;
mod parquet;
mod reader;
mod segment_rows;

pub use parquet::check_parquet_footer;
pub(crate) use reader::Reader;
pub(crate) use segment_rows::SegmentRows;
