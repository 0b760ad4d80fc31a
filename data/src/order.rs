//! The order of an epoch: a permutation of the shards, and of the segments (row groups) in each,
//! drawn from (seed, epoch); rows follow one another in a segment. A place in it is four numbers.
//!
//! Documents are shuffled within windows of this order (`window.rs`). All permutations are functions
//! of the seed and the place alone, so going on from a place needs no more than the place.

use std::sync::Arc;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::OnDamage;
use crate::counts::Counts;
use crate::error::Result;
use crate::read::{Reader, Rows};
use crate::source::{HeldShard, Shards};

/// A place in the endless order: the next row to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Shards of the epoch's order already read.
    pub shard: usize,
    /// Segments of the shard's order already read.
    pub segment: usize,
    /// Rows of the segment already read.
    pub row: u64,
}

impl Place {
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

/// Draws `n` items in the order of (`seed`, `key`): Fisher–Yates from ChaCha8.
///
/// Written out rather than taken from `rand`, whose shuffles may change between versions: a run
/// resumed after an update must see the same rows.
pub(crate) fn permutation(n: usize, seed: u64, key: [u64; 3]) -> Vec<u32> {
    let mut bytes = [0; 32];
    for (eight, word) in bytes
        .chunks_exact_mut(8)
        .zip([seed, key[0], key[1], key[2]])
    {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(bytes);
    let n = u32::try_from(n).expect("fewer than 2³² items");
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..order.len()).rev() {
        // Uniform on 0..=i up to 2⁻⁶⁴·i.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}

/// Reads a source's rows in the order of one epoch after the other.
pub(crate) struct Walk {
    shards: Arc<Shards>,
    /// `None` keeps the source's own order.
    seed: Option<u64>,
    on_damage: OnDamage,
    place: Place,
    /// The epoch's shards.
    order: Vec<u32>,
    open: Option<Open>,
}

/// The shard at the place.
struct Open {
    reader: Reader,
    /// The shard's segments.
    order: Vec<u32>,
    rows: Option<Rows>,
    /// Keeps a downloaded shard on disk.
    _held: HeldShard,
}

/// Parts of the permutations' keys.
const SHARDS: u64 = 1;
const SEGMENTS: u64 = 2;
/// Shards named to the source ahead of time.
const AHEAD: usize = 4;

impl Walk {
    /// Goes on from `place`; without a seed in the source's own order.
    pub(crate) fn new(
        shards: Arc<Shards>,
        seed: Option<u64>,
        on_damage: OnDamage,
        place: Place,
    ) -> Self {
        let order = shard_order(shards.len(), seed, place.epoch);
        Self {
            shards,
            seed,
            on_damage,
            place,
            order,
            open: None,
        }
    }

    /// Where the next row is.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Share of the epoch that lies before the place, by shards and their segments.
    pub(crate) fn fraction(&self) -> f64 {
        let segments = self.open.as_ref().map_or(1, |open| open.order.len().max(1));
        let shards = self.place.shard as f64 + self.place.segment as f64 / segments as f64;
        shards / self.order.len() as f64
    }

    /// The next row whose text is not null; `None` at the end of the epoch, after which the next
    /// one begins. What is damaged is counted in `counts` if the recipe says to skip it.
    pub(crate) fn next(&mut self, counts: &mut Counts) -> Result<Option<(Location, String)>> {
        loop {
            let Some(&shard) = self.order.get(self.place.shard) else {
                self.place = Place {
                    epoch: self.place.epoch + 1,
                    ..Place::default()
                };
                self.order = shard_order(self.shards.len(), self.seed, self.place.epoch);
                return Ok(None);
            };
            if self.open.is_none() {
                match self.open(shard as usize) {
                    Ok(open) => self.open = Some(open),
                    Err(e) => {
                        self.damaged(e, counts)?;
                        self.next_shard();
                        continue;
                    }
                }
            }
            let open = self.open.as_mut().expect("opened above");
            let Some(&segment) = open.order.get(self.place.segment) else {
                self.next_shard();
                continue;
            };
            let rows = match &mut open.rows {
                Some(rows) => rows,
                None => match open.reader.rows(segment as usize, self.place.row) {
                    Ok(rows) => open.rows.insert(rows),
                    Err(e) => {
                        self.damaged(e, counts)?;
                        self.next_segment();
                        continue;
                    }
                },
            };
            match rows.next() {
                Some(Ok((row, text))) => {
                    self.place.row = row + 1;
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
                Some(Err(e)) => self.damaged(e, counts)?,
                None => self.next_segment(),
            }
        }
    }

    fn open(&self, shard: usize) -> Result<Open> {
        let mut ahead: Vec<usize> = self.order[self.place.shard + 1..]
            .iter()
            .take(AHEAD)
            .map(|&i| i as usize)
            .collect();
        if ahead.len() < AHEAD {
            let next = shard_order(self.shards.len(), self.seed, self.place.epoch + 1);
            ahead.extend(next.iter().take(AHEAD - ahead.len()).map(|&i| i as usize));
        }
        let held = self.shards.open(shard, &ahead)?;
        let reader = Reader::open(&held)?;
        let order = match self.seed {
            Some(seed) => permutation(
                reader.segments(),
                seed,
                [SEGMENTS, self.place.epoch, shard as u64],
            ),
            None => (0..reader.segments() as u32).collect(),
        };
        Ok(Open {
            reader,
            order,
            rows: None,
            _held: held,
        })
    }

    fn damaged(&self, error: crate::Error, counts: &mut Counts) -> Result<()> {
        if self.on_damage == OnDamage::Skip && error.is_damage() {
            counts.damaged += 1;
            return Ok(());
        }
        Err(error)
    }

    fn next_segment(&mut self) {
        self.place.segment += 1;
        self.place.row = 0;
        if let Some(open) = &mut self.open {
            open.rows = None;
        }
    }

    fn next_shard(&mut self) {
        self.place = Place {
            epoch: self.place.epoch,
            shard: self.place.shard + 1,
            ..Place::default()
        };
        self.open = None;
    }
}

/// The text of every document of `shards`, in their own order; rows whose text is null are passed
/// over. The first error ends it.
pub fn documents(shards: &Arc<Shards>) -> impl Iterator<Item = Result<String>> + Send + use<> {
    documents_with_progress(shards).map(|document| document.map(|(text, _)| text))
}

/// [`documents`], with the share of the source that lies before each.
pub(crate) fn documents_with_progress(
    shards: &Arc<Shards>,
) -> impl Iterator<Item = Result<(String, f64)>> + Send + use<> {
    let mut walk = Walk::new(shards.clone(), None, OnDamage::Stop, Place::default());
    let mut counts = Counts::default();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let next = walk.next(&mut counts).transpose();
        ended = !matches!(next, Some(Ok(_)));
        Some(next?.map(|(_, text)| (text, walk.fraction())))
    })
}

fn shard_order(shards: usize, seed: Option<u64>, epoch: u64) -> Vec<u32> {
    match seed {
        Some(seed) => permutation(shards, seed, [SHARDS, epoch, 0]),
        None => (0..shards as u32).collect(),
    }
}
