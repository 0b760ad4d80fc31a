//! The endless sequence of training batches: rows of the sources mixed by weight, in an order that
//! all ranks share, each taking its share of it.
//!
//! Row g of the sequence comes from the source that lags most behind its share of the first g + 1
//! rows, so the mixture is exact at every position and needs no state but the rows taken from each.
//! With R ranks and B rows in a rank's batch, step s is rows s·R·B to (s + 1)·R·B of the sequence, and
//! rank r takes B of them from r·B on: the cursor between two steps is the same for all ranks, and
//! valid for any number of them.

use std::sync::Arc;

use crate::batch::{Batch, BatchSource};
use crate::cursor::{Cursor, Identity, SourceCursor};
use crate::error::{Error, Result};
use crate::pretokenized::PretokenizedRows;
use crate::row::Row;
use crate::stats::Stats;
use crate::stream::Stream;

/// Where the rows of a source come from.
pub(crate) enum RowSource {
    Stream(Box<Stream>),
    Pretokenized(PretokenizedRows),
}

impl RowSource {
    fn next_row(&mut self) -> Result<Row> {
        match self {
            Self::Stream(stream) => stream.next_row(),
            Self::Pretokenized(rows) => rows.next_row(),
        }
    }

    fn cursor(&self) -> SourceCursor {
        match self {
            Self::Stream(stream) => stream.cursor(),
            Self::Pretokenized(rows) => rows.cursor(),
        }
    }
}

/// A rank's share of the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl Default for Rank {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

/// Training batches without end, from a cursor on.
pub struct Batches {
    identity: Arc<Identity>,
    sources: Vec<(RowSource, f64)>,
    /// Rows taken of each source.
    taken: Vec<u64>,
    seq_len: usize,
    batch_size: usize,
    rank: Rank,
}

impl Batches {
    /// Batches of `batch_size` rows for `rank`, of sources with their shares of the rows, each at
    /// its position.
    pub(crate) fn new(
        identity: Arc<Identity>,
        sources: Vec<(RowSource, f64)>,
        seq_len: usize,
        batch_size: usize,
        rank: Rank,
    ) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::config("batch_size", "is 0; give at least 1"));
        }
        if rank.index >= rank.count {
            return Err(Error::config(
                "rank",
                format!("is {} of {} ranks", rank.index, rank.count),
            ));
        }
        Ok(Self {
            taken: sources.iter().map(|(s, _)| s.cursor().rows).collect(),
            identity,
            sources,
            seq_len,
            batch_size,
            rank,
        })
    }

    /// The rank's next batch, always of the full size.
    ///
    /// # Errors
    ///
    /// Any error of reading a source; the batches cannot be used afterwards.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let first = self.rank.index * self.batch_size;
        let before: u64 = self.taken.iter().sum();
        let mut rows = Vec::with_capacity(self.batch_size);
        for i in 0..self.batch_size * self.rank.count {
            let row = self.next_row()?;
            if (first..first + self.batch_size).contains(&i) {
                rows.push(row);
            }
        }
        let first_row = before + first as u64;
        Ok(Batch::new(
            &rows,
            self.seq_len,
            BatchSource::Training { first_row },
        ))
    }

    fn next_row(&mut self) -> Result<Row> {
        let next = self.taken.iter().sum::<u64>() + 1;
        let lag = |i: usize| self.sources[i].1 * next as f64 - self.taken[i] as f64;
        let most = (0..self.sources.len())
            .reduce(|a, b| if lag(b) > lag(a) { b } else { a })
            .expect("at least one source");
        self.taken[most] += 1;
        self.sources[most].0.next_row()
    }

    /// Where the next batch starts: the same for all ranks, and valid for any number of them.
    pub fn cursor(&self) -> Cursor {
        let sources = self.sources.iter().map(|(rows, _)| rows.cursor()).collect();
        Cursor::at(Identity::clone(&self.identity), sources)
    }

    /// What became of the documents and tokens of the windows used up so far.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for (rows, _) in &self.sources {
            sum += rows.cursor().stats;
        }
        sum
    }
}
