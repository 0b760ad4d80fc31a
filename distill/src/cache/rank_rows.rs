//! Divides the rows of a cache among the ranks that write it.
//!
//! In: the number of rows, the shards that are there. Out: for each rank the batches with rows
//! that it has to write.

use std::ops::Range;

use retort_comm::ProcessGroup;
use retort_data::{Batch, Batches, Cursor};

use super::shards::Shard;
use crate::error::Result;

/// The rows of one rank: blocks of whole batches in turn, without the rows already written.
pub(super) struct RankRows {
    rank: u64,
    ranks: u64,
    /// Rows in a block, a multiple of the batch size.
    block: u64,
    total: u64,
    written: Vec<Range<u64>>,
}

impl RankRows {
    /// The share of this rank of `total` rows. A block has `max_block` rows, or fewer where that
    /// gives every rank a block; `shards` are already written.
    pub(super) fn new(
        group: &ProcessGroup,
        shards: &[Shard],
        total: u64,
        max_block: usize,
        batch_size: usize,
    ) -> Self {
        let ranks = group.size() as u64;
        let block = total.div_ceil(ranks).min(max_block as u64).max(1);
        Self {
            rank: group.rank() as u64,
            ranks,
            block: block.next_multiple_of(batch_size as u64),
            total,
            written: shards
                .iter()
                .map(|shard| shard.first..shard.end())
                .collect(),
        }
    }

    /// Whether `row` falls to this rank.
    pub(super) fn contains(&self, row: u64) -> bool {
        row < self.total && row / self.block % self.ranks == self.rank
    }

    /// Whether `row` is already written.
    pub(super) fn is_written(&self, row: u64) -> bool {
        self.written.iter().any(|rows| rows.contains(&row))
    }

    /// Rows of the total that are already written, of all ranks.
    pub(super) fn written(&self) -> u64 {
        let within = |rows: &Range<u64>| rows.end.min(self.total) - rows.start.min(self.total);
        self.written.iter().map(within).sum()
    }

    /// The next batch with a row to write, if there is one, and the cursor before it.
    ///
    /// # Errors
    /// Anything wrong with the data.
    pub(super) fn next_batch(&self, batches: &mut Batches) -> Result<(Option<Batch>, Cursor)> {
        loop {
            let before = batches.cursor();
            if before.rows() >= self.total {
                return Ok((None, before));
            }
            let batch = batches.next_batch()?;
            let first = batch.first_row().unwrap_or_default();
            // A shard may end within a batch.
            let mut rows = first..first + batch.rows as u64;
            if self.contains(first) && rows.any(|row| !self.is_written(row)) {
                return Ok((Some(batch), before));
            }
        }
    }
}
