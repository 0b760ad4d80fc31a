//! Rows that were tokenized and packed once: on disk, memory-mapped, at random access.
//!
//! A directory that `retort data pack` wrote:
//!
//! ```text
//! pack.json             what was packed, of what; written last: without it the directory is not whole
//! tokenizer.json        the tokenizer it was packed with
//! S/NNNNN.arrow         rows of source S, as many in each file but the last
//! validation.arrow      held-out rows of all sources
//! ```
//!
//! The files are Arrow IPC files (version 5 of the metadata, not compressed) of the columns `ids`
//! (`FixedSizeList<UInt16 | UInt32>[seq_len + 1]`), `length` (`UInt32`, ids that are no padding) and
//! `starts` (`List<UInt32>`, where documents begin). Source:
//! <https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>.

mod index;
mod read;
mod write;

pub(crate) use index::Index;
pub use index::{ROWS_A_FILE, pretokenized_rows};
pub(crate) use read::{PretokenizedRows, RowFile, validation_rows};
pub use write::{PackReport, pack};
