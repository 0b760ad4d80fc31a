//! The order of an epoch: a permutation of the shards, and of the segments (row groups) in each,
//! drawn from (seed, epoch); rows follow one another in a segment. A position in it is four numbers.
//!
//! Documents are shuffled within windows of this order (`shuffle_window.rs`). All permutations are functions
//! of the seed and the position alone, so going on from a position needs no more than the position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::OnDamage;
use crate::error::{Error, Result};
use crate::permutation::permutation;
use crate::read::{Reader, SegmentRows};
use crate::source::{ShardLease, Shards};
use crate::stats::Stats;

/// A position in the endless order: the next row to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Shards of the epoch's order already read.
    pub shard: usize,
    /// Segments of the shard's order already read.
    pub segment: usize,
    /// Rows of the segment already read.
    pub row: u64,
}

impl Position {
    /// Whether nothing of the epoch lies before it.
    pub(crate) fn starts_epoch(&self) -> bool {
        (self.shard, self.segment, self.row) == (0, 0, 0)
    }
}

/// Where a document lies in its source, whatever the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Location {
    /// Index among the source's shards.
    pub shard: u32,
    /// Segment of the shard.
    pub segment: u32,
    /// Row of the segment.
    pub row: u64,
}

/// Reads a source's rows in the order of one epoch after the other.
pub(crate) struct ShardWalker {
    shards: Arc<Shards>,
    /// `None` keeps the source's own order.
    seed: Option<u64>,
    on_damage: OnDamage,
    position: Position,
    /// The epoch's shards.
    order: Vec<u32>,
    open: Option<OpenShard>,
    /// Whether the epoch has given a row, or was entered behind its start.
    has_rows: bool,
    /// What was passed over first in an epoch that has given no row.
    first_damage: Option<Error>,
}

/// The shard at the position.
struct OpenShard {
    reader: Reader,
    /// The shard's segments.
    order: Vec<u32>,
    rows: Option<SegmentRows>,
    /// Keeps a downloaded shard on disk.
    _lease: ShardLease,
}

/// Parts of the permutations' keys.
const SHARDS: u64 = 1;
const SEGMENTS: u64 = 2;
/// Shards named to the source ahead of time.
const AHEAD: usize = 4;

impl ShardWalker {
    /// Goes on from `position`; without a seed in the source's own order.
    pub(crate) fn new(
        shards: Arc<Shards>,
        seed: Option<u64>,
        on_damage: OnDamage,
        position: Position,
    ) -> Self {
        let order = shard_order(shards.len(), seed, position.epoch);
        Self {
            shards,
            seed,
            on_damage,
            position,
            order,
            open: None,
            has_rows: !position.starts_epoch(),
            first_damage: None,
        }
    }

    /// Where the next row is.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Share of the epoch that lies before the position, by shards and their segments.
    pub(crate) fn fraction(&self) -> f64 {
        let segments = self.open.as_ref().map_or(1, |open| open.order.len().max(1));
        let shards = self.position.shard as f64 + self.position.segment as f64 / segments as f64;
        shards / self.order.len() as f64
    }

    /// The next row whose text is not null; `None` at the end of the epoch, after which the next
    /// one begins. What is damaged is counted in `stats` if the recipe says to skip it; an epoch
    /// with nothing else is an error.
    pub(crate) fn next(&mut self, stats: &mut Stats) -> Result<Option<(Location, String)>> {
        loop {
            let Some(&shard) = self.order.get(self.position.shard) else {
                self.position = Position {
                    epoch: self.position.epoch + 1,
                    ..Position::default()
                };
                self.order = shard_order(self.shards.len(), self.seed, self.position.epoch);
                self.has_rows = false;
                return match self.first_damage.take() {
                    Some(first) => Err(Error::NothingRead {
                        source_name: self.shards.name(0),
                        first: Box::new(first),
                    }),
                    None => Ok(None),
                };
            };
            if self.open.is_none() {
                match self.open(shard as usize) {
                    Ok(open) => self.open = Some(open),
                    Err(e) => {
                        self.damaged(e, stats)?;
                        self.next_shard();
                        continue;
                    }
                }
            }
            let open = self.open.as_mut().expect("opened above");
            let Some(&segment) = open.order.get(self.position.segment) else {
                self.next_shard();
                continue;
            };
            let rows = match &mut open.rows {
                Some(rows) => rows,
                None => match open.reader.rows(segment as usize, self.position.row) {
                    Ok(rows) => open.rows.insert(rows),
                    Err(e) => {
                        self.damaged(e, stats)?;
                        self.next_segment();
                        continue;
                    }
                },
            };
            match rows.next() {
                Some(Ok((row, text))) => {
                    self.position.row = row + 1;
                    self.has_rows = true;
                    self.first_damage = None;
                    if let Some(text) = text {
                        return Ok(Some((
                            Location {
                                shard,
                                segment,
                                row,
                            },
                            text,
                        )));
                    }
                }
                Some(Err(e)) => self.damaged(e, stats)?,
                None => self.next_segment(),
            }
        }
    }

    fn open(&self, shard: usize) -> Result<OpenShard> {
        let mut ahead: Vec<usize> = self.order[self.position.shard + 1..]
            .iter()
            .take(AHEAD)
            .map(|&i| i as usize)
            .collect();
        if ahead.len() < AHEAD {
            let next = shard_order(self.shards.len(), self.seed, self.position.epoch + 1);
            ahead.extend(next.iter().take(AHEAD - ahead.len()).map(|&i| i as usize));
        }
        let lease = self.shards.open(shard, &ahead)?;
        let reader = Reader::open(&lease)?;
        let order = match self.seed {
            Some(seed) => permutation(
                reader.segments(),
                seed,
                [SEGMENTS, self.position.epoch, shard as u64],
            ),
            None => (0..reader.segments() as u32).collect(),
        };
        Ok(OpenShard {
            reader,
            order,
            rows: None,
            _lease: lease,
        })
    }

    fn damaged(&mut self, error: Error, stats: &mut Stats) -> Result<()> {
        if self.on_damage != OnDamage::Skip || !error.is_damage() {
            return Err(error);
        }
        stats.damaged += 1;
        if !self.has_rows {
            self.first_damage.get_or_insert(error);
        }
        Ok(())
    }

    fn next_segment(&mut self) {
        self.position.segment += 1;
        self.position.row = 0;
        if let Some(open) = &mut self.open {
            open.rows = None;
        }
    }

    fn next_shard(&mut self) {
        self.position = Position {
            epoch: self.position.epoch,
            shard: self.position.shard + 1,
            ..Position::default()
        };
        self.open = None;
    }
}

fn shard_order(shards: usize, seed: Option<u64>, epoch: u64) -> Vec<u32> {
    match seed {
        Some(seed) => permutation(shards, seed, [SHARDS, epoch, 0]),
        None => (0..shards as u32).collect(),
    }
}
