//! Best-fit packing: rows that start with a document and hold whole documents, chosen so that little
//! stays empty (best-fit decreasing, as in Ding et al., arXiv 2404.10830, but cropping what is
//! longer than a row instead of going on with it in another).
//!
//! The pool is one window: the next row is named by its window and the rows of that before it. Its rows are shuffled, for the packing puts the longest documents first.

use std::collections::{BTreeMap, VecDeque};

use crate::epoch_order::Position;
use crate::permutation::permutation;
use crate::row::Row;
use crate::shuffle_window::TokenWindow;
use crate::stats::Stats;

const ROWS: u64 = 4;

/// The rows of one window that are not yet used.
pub(crate) struct BestFit {
    seq_len: usize,
    seed: u64,
    window: Option<Position>,
    rows: VecDeque<Row>,
    /// Rows of the window already used.
    used: usize,
    /// Statistics before the window, and of it.
    before: Stats,
    stats: Stats,
}

impl BestFit {
    /// Starts with the window at a position, of which `skip` rows have been used.
    pub(crate) fn new(seq_len: usize, seed: Option<u64>, skip: usize, before: Stats) -> Self {
        Self {
            seq_len,
            seed: seed.unwrap_or(0),
            window: None,
            rows: VecDeque::new(),
            used: skip,
            before,
            stats: Stats::default(),
        }
    }

    /// Takes the next window; the one before must be used up.
    pub(crate) fn push(&mut self, window: &TokenWindow) {
        let (rows, stats) = pack(window, self.seq_len, self.seed);
        self.window = Some(window.position);
        self.stats = stats;
        self.rows = rows.into();
        self.rows.drain(..self.used.min(self.rows.len()));
        self.pass_used_window();
    }

    /// The window of the next row (`None`: the one to be pushed), its rows before that, and the
    /// Statistics before the window.
    pub(crate) fn position(&self) -> (Option<Position>, u64, Stats) {
        (self.window, self.used as u64, self.before)
    }

    /// The next row of the window.
    pub(crate) fn next_row(&mut self) -> Option<Row> {
        let row = self.rows.pop_front()?;
        self.used += 1;
        self.pass_used_window();
        Some(row)
    }

    fn pass_used_window(&mut self) {
        if self.rows.is_empty() {
            self.before += std::mem::take(&mut self.stats);
            self.window = None;
            self.used = 0;
        }
    }
}

/// The rows of `window`, each at most `seq_len + 1` ids, and its statistics with what was cropped and
/// padded.
fn pack(window: &TokenWindow, seq_len: usize, seed: u64) -> (Vec<Row>, Stats) {
    let capacity = seq_len + 1;
    let mut stats = window.stats;
    let ends = window.starts.iter().skip(1).copied();
    let ends = ends.chain([window.ids.len()]);
    let mut documents: Vec<&[u32]> = window
        .starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| &window.ids[start..end])
        .map(|ids| &ids[..ids.len().min(capacity)])
        .collect();
    stats.cropped +=
        window.ids.len() as u64 - documents.iter().map(|d| d.len() as u64).sum::<u64>();
    // Stable: documents of a length stay in the window's order.
    documents.sort_by_key(|ids| std::cmp::Reverse(ids.len()));
    let mut rows: Vec<Row> = Vec::new();
    // Rows by the room that is left in them.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for ids in documents {
        let fitting = open.range_mut(ids.len()..).next().map(|(&room, rows)| {
            let row = rows.pop().expect("no empty list is kept");
            (room, row, rows.is_empty())
        });
        let (room, row) = match fitting {
            Some((room, row, last)) => {
                if last {
                    open.remove(&room);
                }
                (room, row)
            }
            None => {
                rows.push(Row {
                    ids: Vec::with_capacity(capacity),
                    starts: Vec::new(),
                });
                (capacity, rows.len() - 1)
            }
        };
        let into = &mut rows[row];
        // The row's last id is a target only: no document begins with it.
        if into.ids.len() < seq_len {
            into.starts.push(into.ids.len() as u32);
        }
        into.ids.extend_from_slice(ids);
        if room > ids.len() {
            open.entry(room - ids.len()).or_default().push(row);
        }
    }
    stats.padded += rows
        .iter()
        .map(|r| (capacity - r.ids.len()) as u64)
        .sum::<u64>();
    let key = [
        ROWS,
        window.position.epoch,
        window.position.row ^ (window.position.shard as u64) << 40,
    ];
    let order = permutation(rows.len(), seed, key);
    let rows = order
        .into_iter()
        .map(|i| std::mem::take(&mut rows[i as usize]))
        .collect();
    (rows, stats)
}
