//! The endless sequence of training batches: rows of the sources mixed by weight, in an order that
//! all ranks share, each taking its share of it.
//!
//! Row g of the sequence comes from the source that lags most behind its share of the first g + 1
//! rows, so the mixture is exact at every place and needs no state but the rows taken from each.
//! With R ranks and B rows in a rank's batch, step s is rows s·R·B to (s + 1)·R·B of the sequence, and
//! rank r takes B of them from r·B on: the cursor between two steps is the same for all ranks, and
//! valid for any number of them.

use std::sync::Arc;

use crate::counts::Counts;
use crate::cursor::{Cursor, Identity, SourceCursor};
use crate::error::{Error, Result};
use crate::packed::PackedRows;
use crate::row::Row;
use crate::stream::Stream;

/// Rows of inputs and of next-token targets, row-major `[rows × seq_len]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows.
    pub rows: usize,
    /// Ids in a row.
    pub seq_len: usize,
    /// Input ids, `rows · seq_len` of them; padding repeats the row's last id.
    pub inputs: Vec<i32>,
    /// For each input the id that follows it, or [`IGNORE`](Self::IGNORE) for padding.
    pub targets: Vec<i32>,
    /// For each input, which document of its row it is of, from 0: attention must not cross these.
    pub documents: Vec<i32>,
    /// For each input its place in its document, or in the part of it that is in the row.
    pub positions: Vec<i32>,
    /// The place of its first row in the sequence of training rows, if it has one there. It depends
    /// on neither batch size nor ranks.
    pub first_row: Option<u64>,
}

impl Batch {
    /// The target of a place that no loss is taken at.
    pub const IGNORE: i32 = -1;

    /// The batch of `rows`, each at most `seq_len + 1` ids.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a Row>, seq_len: usize) -> Self {
        let mut batch = Self {
            rows: 0,
            seq_len,
            inputs: Vec::new(),
            targets: Vec::new(),
            documents: Vec::new(),
            positions: Vec::new(),
            first_row: None,
        };
        for row in rows {
            batch.push(row);
        }
        batch
    }

    fn push(&mut self, row: &Row) {
        self.rows += 1;
        // Ids are below 2³¹: `Tokenizer` sees to it.
        let ids = row.ids.iter().map(|&id| id as i32);
        let end = self.inputs.len() + self.seq_len;
        let fill = row.ids.last().map_or(0, |&id| id as i32);
        self.inputs.extend(ids.clone().take(self.seq_len));
        self.inputs.resize(end, fill);
        self.targets.extend(ids.skip(1).take(self.seq_len));
        self.targets.resize(end, Self::IGNORE);
        let (mut document, mut start) = (-1, 0);
        let mut starts = row.starts.iter().peekable();
        for i in 0..self.seq_len as u32 {
            if starts.next_if_eq(&&i).is_some() {
                document += 1;
                start = i;
            }
            self.documents.push(document.max(0));
            self.positions.push((i - start) as i32);
        }
    }

    /// Targets that are not padding.
    pub fn tokens(&self) -> usize {
        self.targets
            .iter()
            .filter(|&&id| id != Self::IGNORE)
            .count()
    }
}

/// Where the rows of a source come from.
pub(crate) enum Rows {
    Stream(Box<Stream>),
    Packed(PackedRows),
}

impl Rows {
    fn next_row(&mut self) -> Result<Row> {
        match self {
            Self::Stream(stream) => stream.next_row(),
            Self::Packed(packed) => packed.next_row(),
        }
    }

    fn cursor(&self) -> SourceCursor {
        match self {
            Self::Stream(stream) => stream.cursor(),
            Self::Packed(packed) => packed.cursor(),
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
    sources: Vec<(Rows, f64)>,
    /// Rows taken of each source.
    taken: Vec<u64>,
    seq_len: usize,
    batch_size: usize,
    rank: Rank,
}

impl Batches {
    /// Batches of `batch_size` rows for `rank`, of sources with their shares of the rows, each at
    /// its place.
    pub(crate) fn new(
        identity: Arc<Identity>,
        sources: Vec<(Rows, f64)>,
        seq_len: usize,
        batch_size: usize,
        rank: Rank,
    ) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::Config {
                field: "batch_size",
                reason: "is 0; give at least 1".into(),
            });
        }
        if rank.index >= rank.count {
            return Err(Error::Config {
                field: "rank",
                reason: format!("is {} of {} ranks", rank.index, rank.count),
            });
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
        let mut batch = Batch::new(&rows, self.seq_len);
        batch.first_row = Some(before + first as u64);
        Ok(batch)
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
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for (rows, _) in &self.sources {
            sum += rows.cursor().counts;
        }
        sum
    }
}
