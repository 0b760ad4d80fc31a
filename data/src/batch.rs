//! A batch: rows of inputs and targets, with the documents and positions of their ids.

use crate::row::Row;

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
    /// For each input its position in its document, or in the part of it that is in the row.
    pub positions: Vec<i32>,
    /// Where the rows come from.
    pub source: BatchSource,
}

/// Where the rows of a [`Batch`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSource {
    /// The training data.
    Training {
        /// The first row's index in the sequence of training rows, from 0. It depends on neither batch size nor ranks.
        first_row: u64,
    },
    /// The validation rows.
    Validation,
    /// No data: ids drawn by a model, or made up to time a pass.
    Synthetic,
}

impl Batch {
    /// The target of a position that no loss is taken at.
    pub const IGNORE: i32 = -1;

    /// The batch of `rows`, each at most `seq_len + 1` ids, which come from `source`.
    pub fn new<'a>(
        rows: impl IntoIterator<Item = &'a Row>,
        seq_len: usize,
        source: BatchSource,
    ) -> Self {
        let mut batch = Self {
            rows: 0,
            seq_len,
            inputs: Vec::new(),
            targets: Vec::new(),
            documents: Vec::new(),
            positions: Vec::new(),
            source,
        };
        for row in rows {
            batch.push(row);
        }
        batch
    }

    /// The first row's index in the sequence of training rows; `None` if the rows are others.
    pub fn first_row(&self) -> Option<u64> {
        match self.source {
            BatchSource::Training { first_row } => Some(first_row),
            BatchSource::Validation | BatchSource::Synthetic => None,
        }
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
