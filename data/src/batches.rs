//! The endless sequence of training batches, and a cursor that can stop and go on anywhere in it.
//!
//! Epoch e visits the rows in the order of a permutation drawn from (seed, e) by ChaCha8 and
//! Fisher–Yates. Rows left at the end of an epoch open the next epoch's first batch, so within an
//! epoch no row is lost or repeated and every batch is full. The order is a function of (seed,
//! epoch, number of rows) alone: a cursor of two numbers is all the state there is.

use std::sync::Arc;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::packed::Packed;

/// A place in the sequence of batches: the next row to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Rows of that epoch already taken.
    pub row: u64,
}

/// Rows of inputs and of next-token targets, row-major `[rows × seq_len]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows.
    pub rows: usize,
    /// Ids in a row.
    pub seq_len: usize,
    /// Input ids, `rows · seq_len` of them.
    pub inputs: Vec<i32>,
    /// For each input the id that follows it.
    pub targets: Vec<i32>,
}

/// Training batches without end, from a cursor on.
pub struct Batches {
    packed: Arc<Packed>,
    batch_size: usize,
    seed: u64,
    cursor: Cursor,
    /// The order of the rows in the cursor's epoch.
    order: Vec<usize>,
}

impl Batches {
    /// Batches of `batch_size` rows of `packed`, going on from `cursor` (the default one is the
    /// start).
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] if `packed` has no row, [`Error::Config`] if `batch_size` is 0,
    /// [`Error::Cursor`] if the cursor lies past the rows.
    pub fn new(packed: Arc<Packed>, batch_size: usize, seed: u64, cursor: Cursor) -> Result<Self> {
        packed.check(batch_size)?;
        if cursor.row > packed.len() as u64 {
            let Cursor { epoch, row } = cursor;
            return Err(Error::Cursor {
                epoch,
                row,
                rows: packed.len(),
            });
        }
        let order = permutation(packed.len(), seed, cursor.epoch);
        Ok(Self {
            packed,
            batch_size,
            seed,
            cursor,
            order,
        })
    }

    /// The next batch, always of the full size.
    pub fn next_batch(&mut self) -> Batch {
        let mut rows = Vec::with_capacity(self.batch_size);
        while rows.len() < self.batch_size {
            let taken = self.cursor.row as usize;
            if taken == self.order.len() {
                self.cursor = Cursor {
                    epoch: self.cursor.epoch + 1,
                    row: 0,
                };
                self.order = permutation(self.packed.len(), self.seed, self.cursor.epoch);
                continue;
            }
            let n = (self.batch_size - rows.len()).min(self.order.len() - taken);
            rows.extend_from_slice(&self.order[taken..taken + n]);
            self.cursor.row += n as u64;
        }
        self.packed.gather(rows.into_iter())
    }

    /// Where the next batch starts; [`new`](Self::new) with it goes on from here.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }
}

/// The order of `rows` rows in one epoch.
///
/// Written out rather than taken from `rand`, whose shuffles may change between versions: a run
/// resumed after an update must see the same rows.
fn permutation(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut order: Vec<usize> = (0..rows).collect();
    for i in (1..rows).rev() {
        // Uniform on 0..=i up to 2⁻⁶⁴·i.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}
