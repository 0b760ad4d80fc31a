//! Token ids of one split, concatenated, and the rows cut from them.
//!
//! ```text
//! ids   d d d E d d E d d d d E …      d: document, E: end of text
//! row i inputs  ids[i·L .. i·L+L]      targets  ids[i·L+1 .. i·L+L+1]
//! ```
//!
//! L is `seq_len`. Rows share one id with their neighbour, so each id but the first is a target
//! exactly once; the ids after the last whole row (fewer than L) are not used. Ids take 16 bits
//! where the vocabulary allows, else 32.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3Default;

use crate::batches::Batch;
use crate::error::{Error, Result};

/// One split's ids, ready to be read as rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    ids: Ids,
    seq_len: usize,
    rows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ids {
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Packed {
    /// Rows in the split.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no whole row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Inputs in a row.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Ids in the split, those after the last whole row included.
    pub fn tokens(&self) -> usize {
        match &self.ids {
            Ids::U16(ids) => ids.len(),
            Ids::U32(ids) => ids.len(),
        }
    }

    /// The `seq_len + 1` ids of row `i`.
    ///
    /// # Panics
    ///
    /// If `i` is not below [`len`](Self::len).
    pub fn row(&self, i: usize) -> Vec<u32> {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        let range = i * self.seq_len..(i + 1) * self.seq_len + 1;
        match &self.ids {
            Ids::U16(ids) => ids[range].iter().map(|&id| u32::from(id)).collect(),
            Ids::U32(ids) => ids[range].to_vec(),
        }
    }

    /// The batch of the rows in `rows`, in order.
    ///
    /// # Panics
    ///
    /// If the range reaches past [`len`](Self::len).
    pub fn batch(&self, rows: Range<usize>) -> Batch {
        self.gather(rows)
    }

    /// All rows in order in batches of `batch_size`, the last one shorter if need be: one pass for
    /// an evaluation.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] if there is no row, [`Error::Config`] if `batch_size` is 0.
    pub fn in_order(&self, batch_size: usize) -> Result<impl ExactSizeIterator<Item = Batch>> {
        self.check(batch_size)?;
        let batches = self.rows.div_ceil(batch_size);
        Ok((0..batches)
            .map(move |i| self.gather(i * batch_size..self.rows.min((i + 1) * batch_size))))
    }

    /// A hash of the ids and `seq_len`: equal for equal data, for a resumed run to compare.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        hash.update(&(self.seq_len as u64).to_le_bytes());
        // Hashed as 32 bits either way: the width of the store is no property of the data.
        let mut buffer = Vec::with_capacity(4 * 4096);
        let mut update = |ids: &mut dyn Iterator<Item = u32>| {
            buffer.clear();
            buffer.extend(ids.flat_map(u32::to_le_bytes));
            hash.update(&buffer);
        };
        match &self.ids {
            Ids::U16(ids) => {
                ids.chunks(4096)
                    .for_each(|c| update(&mut c.iter().map(|&id| u32::from(id))));
            }
            Ids::U32(ids) => ids
                .chunks(4096)
                .for_each(|c| update(&mut c.iter().copied())),
        }
        hash.digest()
    }

    /// Whether batches can be made.
    pub(crate) fn check(&self, batch_size: usize) -> Result<()> {
        if batch_size == 0 {
            return Err(Error::Config {
                field: "batch_size",
                reason: "is 0; give at least 1".into(),
            });
        }
        if self.is_empty() {
            return Err(Error::TooSmall {
                tokens: self.tokens(),
                seq_len: self.seq_len,
            });
        }
        Ok(())
    }

    pub(crate) fn gather(&self, rows: impl ExactSizeIterator<Item = usize>) -> Batch {
        let (n, len) = (rows.len(), self.seq_len);
        let mut inputs = Vec::with_capacity(n * len);
        let mut targets = Vec::with_capacity(n * len);
        for i in rows {
            assert!(i < self.rows, "row {i} of {}", self.rows);
            let (from, to) = (i * len, (i + 1) * len);
            // Ids are below 2³¹: `Tokenizer` sees to it.
            match &self.ids {
                Ids::U16(ids) => {
                    inputs.extend(ids[from..to].iter().map(|&id| i32::from(id)));
                    targets.extend(ids[from + 1..to + 1].iter().map(|&id| i32::from(id)));
                }
                Ids::U32(ids) => {
                    inputs.extend(ids[from..to].iter().map(|&id| id as i32));
                    targets.extend(ids[from + 1..to + 1].iter().map(|&id| id as i32));
                }
            }
        }
        Batch {
            rows: n,
            seq_len: len,
            inputs,
            targets,
        }
    }
}

/// Concatenates documents into a [`Packed`].
pub struct Packer {
    ids: Ids,
    seq_len: usize,
    eot: u32,
}

impl Packer {
    /// Starts an empty split for ids below `vocab_size` with `eot` after each document.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `seq_len` is 0 or `eot` is not below `vocab_size`.
    pub fn new(vocab_size: usize, eot: u32, seq_len: usize) -> Result<Self> {
        if seq_len == 0 {
            let reason = "is 0; give at least 1".into();
            return Err(Error::Config {
                field: "seq_len",
                reason,
            });
        }
        if eot as usize >= vocab_size {
            return Err(Error::Tokenize(format!(
                "the end-of-text id {eot} is outside the vocabulary of {vocab_size}"
            )));
        }
        let small = vocab_size <= usize::from(u16::MAX) + 1;
        let ids = if small {
            Ids::U16(Vec::new())
        } else {
            Ids::U32(Vec::new())
        };
        Ok(Self { ids, seq_len, eot })
    }

    /// Appends a document's ids and the end-of-text id.
    ///
    /// # Panics
    ///
    /// If an id does not fit the vocabulary's width.
    pub fn push(&mut self, document: &[u32]) {
        let document = document.iter().copied().chain([self.eot]);
        match &mut self.ids {
            Ids::U16(ids) => ids.extend(
                document.map(|id| u16::try_from(id).expect("an id below the vocabulary's size")),
            ),
            Ids::U32(ids) => ids.extend(document),
        }
    }

    /// The rows of what was appended, no more than `max_rows` of them.
    pub fn finish(self, max_rows: Option<usize>) -> Packed {
        let Self {
            mut ids, seq_len, ..
        } = self;
        let most = max_rows.and_then(|rows| rows.checked_mul(seq_len)?.checked_add(1));
        let most = most.unwrap_or(usize::MAX);
        let tokens = match &mut ids {
            Ids::U16(ids) => {
                ids.truncate(most);
                ids.shrink_to_fit();
                ids.len()
            }
            Ids::U32(ids) => {
                ids.truncate(most);
                ids.shrink_to_fit();
                ids.len()
            }
        };
        Packed {
            ids,
            seq_len,
            rows: tokens.saturating_sub(1) / seq_len,
        }
    }
}
