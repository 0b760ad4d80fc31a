//! Packing by concatenation: the ids of all documents of an epoch one after the other, cut into
//! rows that share one id with their neighbour, so that each id but the first is a target once.
//!
//! ```text
//! ids   d d d E d d E d d d d E …      d: document, E: end of text
//! row i inputs  ids[i·L .. i·L+L]      targets  ids[i·L+1 .. i·L+L+1]
//! ```
//!
//! What does not fill a row at the end of an epoch is left out. The next row is named by the window
//! that its first id is in, and the ids of that window before it.

use std::collections::VecDeque;

use crate::epoch_order::Position;
use crate::row::Row;
use crate::shuffle_window::TokenWindow;
use crate::stats::Stats;

/// Windows of one epoch not yet cut up.
pub(crate) struct Concat {
    seq_len: usize,
    windows: VecDeque<TokenWindow>,
    /// Ids of the first window already used.
    at: usize,
    /// Statistics before the first window.
    before: Stats,
}

impl Concat {
    /// Starts with the window at a position, of which `skip` ids have been used.
    pub(crate) fn new(seq_len: usize, skip: usize, before: Stats) -> Self {
        Self {
            seq_len,
            windows: VecDeque::new(),
            at: skip,
            before,
        }
    }

    pub(crate) fn push(&mut self, window: TokenWindow) {
        self.windows.push_back(window);
    }

    /// The window of the next row's first id (`None`: the one to be pushed), its ids before that,
    /// and the statistics before the window.
    pub(crate) fn position(&self) -> (Option<Position>, u64, Stats) {
        let first = self.windows.front().map(|window| window.position);
        (first, self.at as u64, self.before)
    }

    /// Whether a window must be pushed before a row or the end of the epoch can come.
    pub(crate) fn wants_more(&self) -> bool {
        let ends = self.windows.back().is_some_and(|last| last.ends_epoch);
        !ends && self.left() < self.seq_len + 1
    }

    /// Ids not yet used.
    fn left(&self) -> usize {
        let all: usize = self.windows.iter().map(|w| w.ids.len()).sum();
        all.saturating_sub(self.at)
    }

    /// The next row, or `None` at the end of the epoch, whose rest is then left out.
    pub(crate) fn next_row(&mut self) -> Option<Row> {
        let left = self.left();
        if left < self.seq_len + 1 {
            // But for an epoch without a row, the first id left was the last row's last target.
            let position = self.windows.front().map(|window| window.position);
            let fresh = self.at == 0 && position.is_none_or(|position| position.starts_epoch());
            self.before.cropped += left as u64 - u64::from(!fresh);
            for window in self.windows.drain(..) {
                self.before += window.stats;
            }
            self.at = 0;
            return None;
        }
        self.pass_used_windows();
        let mut row = Row {
            ids: Vec::with_capacity(self.seq_len + 1),
            starts: Vec::new(),
        };
        let mut from = self.at;
        for window in &self.windows {
            let take = (window.ids.len() - from).min(self.seq_len + 1 - row.ids.len());
            let offset = row.ids.len();
            let first = window.starts.partition_point(|&start| start < from);
            let starts = window.starts[first..]
                .iter()
                .take_while(|&&start| start < from + take);
            row.starts
                .extend(starts.map(|start| (start - from + offset) as u32));
            row.ids.extend_from_slice(&window.ids[from..from + take]);
            if row.ids.len() == self.seq_len + 1 {
                break;
            }
            from = 0;
        }
        // The last id is a target only: a document that begins with it is the next row's.
        row.starts.retain(|&start| (start as usize) < self.seq_len);
        if row.starts.first() != Some(&0) {
            row.starts.insert(0, 0);
        }
        self.at += self.seq_len;
        self.pass_used_windows();
        Some(row)
    }

    /// Lets go of windows whose ids all go before the next row.
    fn pass_used_windows(&mut self) {
        while self.windows.len() > 1 && self.at >= self.windows[0].ids.len() {
            let window = self.windows.pop_front().expect("more than one");
            self.at -= window.ids.len();
            self.before += window.stats;
        }
    }
}
