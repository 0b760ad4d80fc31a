//! What a thread remembers of the words it has encoded: tables of fixed size, 8 MiB in all,
//! of which the system backs the parts that are used.
//!
//! Text repeats its words, so most need no merging. A word is found by its own bytes, never by a
//! hash alone: the tables can forget but not err. Words of up to 15 bytes and 3 ids lie in 32-byte
//! entries, words of up to 40 bytes and 4 ids in 64-byte entries, the rest nowhere. A bucket holds
//! two entries, the one used last first; a new word takes the place of the other. Entries carry the
//! number of their tokenizer, so that several tokenizers share a thread's tables.

use bytemuck::Zeroable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bits of the number of buckets of short words: 2¹⁷ words, 4 MiB.
const SHORT_BITS: u32 = 16;
/// Bits of the number of buckets of longer words: 2¹⁶ words, 4 MiB.
const LONG_BITS: u32 = 15;
const SHORT_KEY: usize = 15;
const LONG_KEY: usize = 40;
const SHORT_IDS: usize = 3;
const LONG_IDS: usize = 4;
/// Tokenizers are numbered from 1 to this.
pub(super) const MOST_OWNERS: u32 = (1 << 30) - 1;

/// The lowest bytes of a key, by how many.
const MASKS: [u128; SHORT_KEY + 1] = {
    let mut masks = [0; SHORT_KEY + 1];
    let mut length = 0;
    while length <= SHORT_KEY {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

#[derive(Clone, Copy, Zeroable)]
#[repr(align(32))]
struct Short {
    /// The word's bytes, zeros after them, its length in the last byte.
    key: u128,
    /// The tokenizer's number and, in the two lowest bits, the number of ids; 0 if empty.
    owner_count: u32,
    ids: [u32; SHORT_IDS],
}

#[derive(Clone, Copy, Zeroable)]
#[repr(align(64))]
struct Long {
    /// The word's bytes; in parts of lengths that [`Zeroable`] knows.
    key: [[u8; 8]; LONG_KEY / 8],
    /// The tokenizer's number; 0 if empty.
    owner: u32,
    length: u8,
    count: u8,
    ids: [u32; LONG_IDS],
}

/// The words that one thread remembers.
pub(super) struct WordCache {
    short: Box<[[Short; 2]]>,
    long: Box<[[Long; 2]]>,
}

/// Where a word was looked for: what [`WordCache::remember`] needs.
pub(super) enum Bucket {
    Short { key: u128, index: usize },
    Long { index: usize },
    TooLong,
}

impl WordCache {
    pub(super) fn new() -> Self {
        Self {
            short: bytemuck::zeroed_slice_box(1 << SHORT_BITS),
            long: bytemuck::zeroed_slice_box(1 << LONG_BITS),
        }
    }

    /// Appends the ids that `owner` gives `text[start..end]`, or says where they are to be kept.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        owner: u32,
        text: &[u8],
        start: usize,
        end: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), Bucket> {
        let length = end - start;
        if length > SHORT_KEY {
            return self.find_long(owner, &text[start..end], ids);
        }
        let bytes = match text.get(start..start + 16) {
            Some(sixteen) => sixteen.try_into().unwrap_or([0; 16]),
            None => {
                let mut bytes = [0; 16];
                bytes[..length].copy_from_slice(&text[start..end]);
                bytes
            }
        };
        let key = (u128::from_le_bytes(bytes) & MASKS[length]) | (length as u128) << 120;
        let index = short_bucket(key, owner);
        let entries = &mut self.short[index];
        let mut entry = entries[0];
        if entry.key != key || entry.owner_count >> 2 != owner {
            entry = entries[1];
            if entry.key != key || entry.owner_count >> 2 != owner {
                return Err(Bucket::Short { key, index });
            }
            entries.swap(0, 1);
        }
        match entry.owner_count & 3 {
            1 => ids.push(entry.ids[0]),
            2 => ids.extend_from_slice(&entry.ids[..2]),
            _ => ids.extend_from_slice(&entry.ids),
        }
        Ok(())
    }

    #[inline]
    fn find_long(&mut self, owner: u32, word: &[u8], ids: &mut Vec<u32>) -> Result<(), Bucket> {
        if word.len() > LONG_KEY {
            return Err(Bucket::TooLong);
        }
        let index = (xxh3_64_with_seed(word, owner.into()) >> (64 - LONG_BITS)) as usize;
        let entries = &mut self.long[index];
        let is_word = |entry: &Long| {
            entry.owner == owner
                && usize::from(entry.length) == word.len()
                && &entry.key.as_flattened()[..word.len()] == word
        };
        let at = if is_word(&entries[0]) {
            0
        } else if is_word(&entries[1]) {
            1
        } else {
            return Err(Bucket::Long { index });
        };
        ids.extend_from_slice(&entries[at].ids[..usize::from(entries[at].count)]);
        if at == 1 {
            entries.swap(0, 1);
        }
        Ok(())
    }

    /// Keeps the ids of a word that [`find`](Self::find) did not find.
    pub(super) fn remember(&mut self, owner: u32, word: &[u8], ids: &[u32], bucket: Bucket) {
        match bucket {
            Bucket::Short { key, index } if (1..=SHORT_IDS).contains(&ids.len()) => {
                let mut entry = Short {
                    key,
                    owner_count: owner << 2 | ids.len() as u32,
                    ids: [0; SHORT_IDS],
                };
                entry.ids[..ids.len()].copy_from_slice(ids);
                let entries = &mut self.short[index];
                *entries = [entry, entries[0]];
            }
            Bucket::Long { index } if ids.len() <= LONG_IDS => {
                let mut entry = Long {
                    owner,
                    length: word.len() as u8,
                    count: ids.len() as u8,
                    ..Long::zeroed()
                };
                entry.key.as_flattened_mut()[..word.len()].copy_from_slice(word);
                entry.ids[..ids.len()].copy_from_slice(ids);
                let entries = &mut self.long[index];
                *entries = [entry, entries[0]];
            }
            _ => {}
        }
    }
}

/// Both halves of the key, multiplied and folded.
#[inline(always)]
fn short_bucket(key: u128, owner: u32) -> usize {
    let low = key as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let high = (key >> 64) as u64 ^ 0xd6e8_feb8_6659_fd93 ^ u64::from(owner);
    let product = u128::from(low) * u128::from(high);
    ((product as u64 ^ (product >> 64) as u64) >> (64 - SHORT_BITS)) as usize
}
