//! Evaluation rows: the validation split, held in memory.

use std::ops::Range;

use crate::batch::{Batch, BatchSource};
use crate::row::Row;

/// Rows of the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvalRows {
    rows: Vec<Row>,
    seq_len: usize,
}

impl EvalRows {
    /// A set of rows of at most `seq_len + 1` ids each.
    pub fn new(rows: Vec<Row>, seq_len: usize) -> Self {
        Self { rows, seq_len }
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Inputs in a row.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Targets in all rows, padding not counted.
    pub fn tokens(&self) -> usize {
        self.rows
            .iter()
            .map(|row| row.ids.len().saturating_sub(1))
            .sum()
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The batch of the rows in `range`, in order.
    ///
    /// # Panics
    ///
    /// If the range reaches past [`len`](Self::len).
    pub fn batch(&self, range: Range<usize>) -> Batch {
        Batch::new(&self.rows[range], self.seq_len, BatchSource::Validation)
    }
}
