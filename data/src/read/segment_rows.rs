//! What both readers of shards give.

use crate::error::Result;

/// The documents of a segment from some row on: the row in the segment, and its text unless that is
/// null.
///
/// An error of one row (a malformed line) is followed by the rows after it; after an error of the
/// rest (a damaged page) the iterator has ended.
pub(crate) type SegmentRows = Box<dyn Iterator<Item = Result<(u64, Option<String>)>> + Send>;
