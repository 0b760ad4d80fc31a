//! The merges of a byte-level BPE: a word's bytes to its ids (Sennrich et al., arXiv 1508.07909).
//!
//! The pair of the lowest rank is merged first, of equal pairs the leftmost, as in `tokenizers`.
//! Short words look for it again after each merge; long ones keep the pairs in a heap, so that a
//! word of n bytes takes O(n log n) steps whatever it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// From this many bytes on a word goes through the heap.
const LONG: usize = 96;
const NONE: u32 = u32::MAX;

/// Rank of a merge and the id that it makes.
#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

const NO_MERGE: Merge = Merge {
    rank: NONE,
    id: NONE,
};

#[derive(Clone, Copy)]
struct PairSlot {
    left: u32,
    right: u32,
    merge: Merge,
}

/// The merges by pair of ids.
pub(super) struct Merges {
    /// The id of each byte, [`NONE`] for one that the vocabulary lacks.
    bytes: [u32; 256],
    /// Open addressing, at most half full; a slot without a merge is empty.
    slots: Vec<PairSlot>,
    shift: u32,
}

/// Working memory for one word, kept between words.
#[derive(Default)]
pub(super) struct Scratch {
    ids: Vec<u32>,
    pairs: Vec<Merge>,
}

impl Scratch {
    /// Gives back what a very long word has taken.
    pub(super) fn shrink(&mut self) {
        self.ids.shrink_to(1 << 16);
    }
}

impl Merges {
    /// `merges` are `(left, right, made)` from the first rank on; of two of the same pair the later
    /// one counts. Ids are below 2³¹.
    pub(super) fn new(bytes: [Option<u32>; 256], merges: &[(u32, u32, u32)]) -> Self {
        let size = (merges.len() * 2).next_power_of_two().max(16);
        let mut made = Self {
            bytes: bytes.map(|id| id.unwrap_or(NONE)),
            slots: vec![
                PairSlot {
                    left: NONE,
                    right: NONE,
                    merge: NO_MERGE
                };
                size
            ],
            shift: 64 - size.trailing_zeros(),
        };
        for (rank, &(left, right, id)) in merges.iter().enumerate() {
            let at = made.place(left, right);
            let rank = rank as u32;
            made.slots[at] = PairSlot {
                left,
                right,
                merge: Merge { rank, id },
            };
        }
        made
    }

    /// The slot of a pair, or the empty one where it would be.
    #[inline(always)]
    fn place(&self, left: u32, right: u32) -> usize {
        let key = u64::from(left) << 32 | u64::from(right);
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            let slot = &self.slots[at];
            if (slot.left == left && slot.right == right) || slot.merge.rank == NONE {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline(always)]
    fn pair(&self, left: u32, right: u32) -> Merge {
        self.slots[self.place(left, right)].merge
    }

    /// The ids of the bytes of `word`.
    #[inline(always)]
    fn bytes_of(&self, word: &[u8]) -> impl Iterator<Item = u32> {
        let ids = word.iter().map(|&byte| self.bytes[usize::from(byte)]);
        ids.filter(|&id| id != NONE)
    }

    /// The ids of `word`, in `scratch` until the next call. A word is shorter than 2³² bytes.
    pub(super) fn encode<'s>(&self, word: &[u8], scratch: &'s mut Scratch) -> &'s [u32] {
        if word.len() >= LONG {
            scratch.ids = self.encode_long(word);
            scratch.pairs = Vec::new();
            return &scratch.ids;
        }
        let Scratch { ids, pairs } = scratch;
        ids.clear();
        ids.extend(self.bytes_of(word));
        pairs.clear();
        pairs.extend(ids.windows(2).map(|pair| self.pair(pair[0], pair[1])));
        // `pairs[i]` is the merge of `ids[i]` and `ids[i + 1]`.
        while let Some((at, best)) = lowest(pairs) {
            ids[at] = best.id;
            ids.remove(at + 1);
            pairs.remove(at);
            if at < pairs.len() {
                pairs[at] = self.pair(best.id, ids[at + 1]);
            }
            if at > 0 {
                pairs[at - 1] = self.pair(ids[at - 1], best.id);
            }
        }
        ids
    }

    fn encode_long(&self, word: &[u8]) -> Vec<u32> {
        struct Symbol {
            id: u32,
            previous: u32,
            next: u32,
        }
        let mut symbols: Vec<Symbol> = (0..)
            .zip(self.bytes_of(word))
            .map(|(at, id)| Symbol {
                id,
                previous: u32::wrapping_sub(at, 1),
                next: at + 1,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        // Rank, then place, in one number. An entry whose pair is no longer there is passed over.
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let mut queue: BinaryHeap<Reverse<u64>> = symbols
            .windows(2)
            .zip(0u32..)
            .filter_map(|(pair, at)| {
                let merge = self.pair(pair[0].id, pair[1].id);
                (merge.rank != NONE).then(|| entry(merge.rank, at))
            })
            .collect::<Vec<_>>()
            .into();
        while let Some(Reverse(lowest)) = queue.pop() {
            let (rank, at) = ((lowest >> 32) as u32, lowest as u32);
            let (id, next) = (symbols[at as usize].id, symbols[at as usize].next);
            if id == NONE || next == NONE {
                continue;
            }
            let merge = self.pair(id, symbols[next as usize].id);
            if merge.rank != rank {
                continue;
            }
            // A symbol merged into its left neighbour is gone.
            symbols[next as usize].id = NONE;
            let after = symbols[next as usize].next;
            symbols[at as usize].id = merge.id;
            symbols[at as usize].next = after;
            if after != NONE {
                symbols[after as usize].previous = at;
                let right = self.pair(merge.id, symbols[after as usize].id);
                if right.rank != NONE {
                    queue.push(entry(right.rank, at));
                }
            }
            let before = symbols[at as usize].previous;
            if before != NONE {
                let left = self.pair(symbols[before as usize].id, merge.id);
                if left.rank != NONE {
                    queue.push(entry(left.rank, before));
                }
            }
        }
        symbols
            .iter()
            .map(|symbol| symbol.id)
            .filter(|&id| id != NONE)
            .collect()
    }
}

/// The leftmost of the pairs of the lowest rank.
#[inline(always)]
fn lowest(pairs: &[Merge]) -> Option<(usize, Merge)> {
    let (mut at, mut best) = (0, NO_MERGE);
    for (i, pair) in pairs.iter().enumerate() {
        if pair.rank < best.rank {
            (at, best) = (i, *pair);
        }
    }
    (best.rank != NONE).then_some((at, best))
}
