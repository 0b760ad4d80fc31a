//! How keys and values are stored: blocks of 32 positions of one head, in one of four formats.
//!
//! ```text
//! keys    [2 tiles][head_dim][16]   sixteen positions side by side, as attention wants them
//! values  [32][head_dim]
//! ```
//!
//! F32 and F16 hold numbers as they are. Q8 and Q4 are those of KIVI (arXiv 2402.02750): keys are quantized per channel
//! over the 32 positions of a block, since a few channels are large everywhere; values per position over 32 channels.
//! `x = d q + m` with f16 d and m, q of 8 or 4 bits. A block is quantized when the next one is full, so that the last
//! 32 positions and more are always exact.

use half::f16;
use half::slice::HalfFloatSliceExt;

use retort_format::quant::round;
use retort_kernels::attention::{TILE, width};
use retort_kernels::ops;

/// Positions in a block.
pub const BLOCK: usize = 32;

/// The format of keys and values in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Single precision.
    F32,
    /// Half precision.
    #[default]
    F16,
    /// 8 bits, about half of F16.
    Q8,
    /// 4 bits, about a third of F16.
    Q4,
}

impl KvType {
    /// Bytes of one block of one head, keys and values; none if that overflows.
    pub fn block_bytes(self, head_dim: usize) -> Option<usize> {
        // bytes for each channel of a head, and for each group of them
        let (channel, group) = match self {
            Self::F32 => (2 * BLOCK * 4, 0),
            Self::F16 => (2 * BLOCK * 2, 0),
            Self::Q8 => (size_of::<Group8>(), BLOCK * size_of::<Group8>()),
            Self::Q4 => (size_of::<Group4>(), BLOCK * size_of::<Group4>()),
        };
        let groups = head_dim.div_ceil(GROUP).checked_mul(group)?;
        head_dim.checked_mul(channel)?.checked_add(groups)
    }
}

/// Numbers that share a scale.
const GROUP: usize = round::BLOCK;

/// 32 positions of one head.
#[derive(Clone, Debug)]
pub(super) enum Block {
    F32 {
        keys: Box<[f32]>,
        values: Box<[f32]>,
    },
    F16 {
        keys: Box<[f16]>,
        values: Box<[f16]>,
    },
    Q8(Quantized<Group8>),
    Q4(Quantized<Group4>),
}

/// Keys and values in groups of 32 numbers.
#[derive(Clone, Debug)]
pub(super) struct Quantized<G> {
    /// Per channel: 32 positions.
    keys: Box<[G]>,
    /// Per position: 32 channels each.
    values: Box<[G]>,
}

/// 32 numbers `d q + m`.
pub(super) trait Group: Sized {
    fn new(x: &[f32; GROUP]) -> Self;
    fn numbers(&self) -> [f32; GROUP];
}

/// 32 numbers `d q + m` of 8 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group8 {
    d: f16,
    m: f16,
    q: [u8; GROUP],
}

/// 32 numbers of 4 bits: number i in the lower half of byte i, number i + 16 in the upper half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group4 {
    d: f16,
    m: f16,
    q: [u8; GROUP / 2],
}

impl Block {
    /// An empty block, in half precision unless single is asked for: what is quantized becomes so later.
    pub fn new(ty: KvType, head_dim: usize) -> Self {
        let n = BLOCK * head_dim;
        match ty {
            KvType::F32 => Self::F32 {
                keys: vec![0.0; n].into(),
                values: vec![0.0; n].into(),
            },
            _ => Self::F16 {
                keys: vec![f16::ZERO; n].into(),
                values: vec![f16::ZERO; n].into(),
            },
        }
    }

    /// Sets position `i`; a quantized block becomes one of half precision first.
    pub fn set(&mut self, i: usize, key: &[f32], value: &[f32]) {
        let hd = key.len();
        let at = |d: usize| key_at(hd, d, i);
        match self {
            Self::F32 { keys, values } => {
                (0..hd).for_each(|d| keys[at(d)] = key[d]);
                values[i * hd..(i + 1) * hd].copy_from_slice(value);
            }
            Self::F16 { keys, values } => {
                (0..hd).for_each(|d| keys[at(d)] = f16::from_f32(key[d]));
                values[i * hd..(i + 1) * hd].convert_from_f32_slice(value);
            }
            Self::Q8(_) | Self::Q4(_) => {
                *self = self.to_half(hd);
                self.set(i, key, value);
            }
        }
    }

    /// The same numbers in half precision.
    fn to_half(&self, hd: usize) -> Self {
        let (mut keys, mut rows) = (vec![0.0; BLOCK * hd], vec![0.0; BLOCK * width(hd)]);
        self.read(hd, &mut keys, &mut rows);
        let mut half = Self::new(KvType::F16, hd);
        if let Self::F16 { keys: to, values } = &mut half {
            to.convert_from_f32_slice(&keys);
            for (to, row) in values
                .chunks_exact_mut(hd)
                .zip(rows.chunks_exact(width(hd)))
            {
                to.convert_from_f32_slice(&row[..hd]);
            }
        }
        half
    }

    /// The block in `ty`, if that quantizes and the block is not quantized already.
    pub fn quantized(&self, ty: KvType, hd: usize) -> Option<Self> {
        match (self, ty) {
            (Self::F16 { .. }, KvType::Q8) => Some(Self::Q8(Quantized::of(self, hd))),
            (Self::F16 { .. }, KvType::Q4) => Some(Self::Q4(Quantized::of(self, hd))),
            _ => None,
        }
    }

    /// Decodes into `keys` [2][hd][16] and `values` [32][width(hd)].
    pub fn read(&self, hd: usize, keys: &mut [f32], values: &mut [f32]) {
        let rows = |values| <[f32]>::chunks_exact_mut(values, width(hd));
        match self {
            Self::F32 {
                keys: from,
                values: all,
            } => {
                keys.copy_from_slice(from);
                for (row, from) in rows(values).zip(all.chunks_exact(hd)) {
                    row[..hd].copy_from_slice(from);
                }
            }
            Self::F16 {
                keys: from,
                values: all,
            } => {
                ops::from_f16(from, keys);
                for (row, from) in rows(values).zip(all.chunks_exact(hd)) {
                    ops::from_f16(from, &mut row[..hd]);
                }
            }
            Self::Q8(block) => block.read(hd, keys, values),
            Self::Q4(block) => block.read(hd, keys, values),
        }
    }
}

impl<G: Group> Quantized<G> {
    /// The numbers of `block`.
    fn of(block: &Block, hd: usize) -> Self {
        let (mut keys, mut rows) = (vec![0.0; BLOCK * hd], vec![0.0; BLOCK * width(hd)]);
        block.read(hd, &mut keys, &mut rows);
        let channel = |d| G::new(&std::array::from_fn(|i| keys[key_at(hd, d, i)]));
        let groups = rows.chunks_exact(width(hd)).flat_map(|row| {
            row[..hd].chunks(GROUP).map(|part| {
                // a short last group repeats its first number, which leaves its range as it is
                G::new(&std::array::from_fn(|i| *part.get(i).unwrap_or(&part[0])))
            })
        });
        Self {
            keys: (0..hd).map(channel).collect(),
            values: groups.collect(),
        }
    }

    /// As [`Block::read`].
    fn read(&self, hd: usize, keys: &mut [f32], values: &mut [f32]) {
        let (tiles, _) = keys.as_chunks_mut::<TILE>();
        for (d, group) in self.keys.iter().enumerate() {
            let numbers = group.numbers();
            let (first, second) = numbers.split_at(TILE);
            tiles[d].copy_from_slice(first);
            tiles[hd + d].copy_from_slice(second);
        }
        let rows = values.chunks_exact_mut(width(hd));
        for (row, groups) in rows.zip(self.values.chunks_exact(hd.div_ceil(GROUP))) {
            for (to, group) in row[..hd].chunks_mut(GROUP).zip(groups) {
                to.copy_from_slice(&group.numbers()[..to.len()]);
            }
        }
    }
}

/// Where channel `d` of position `i` is among a block's keys.
fn key_at(hd: usize, d: usize, i: usize) -> usize {
    (i / TILE * hd + d) * TILE + i % TILE
}

/// [`round::affine`]; not a number gives a scale that shows it.
fn affine(x: &[f32; GROUP], steps: f32) -> (f16, f16, [u8; GROUP]) {
    let (d, m, q) = round::affine(x, steps);
    let q = q.map(|q| q as u8);
    if x.iter().all(|x| x.is_finite()) {
        (d, m, q)
    } else {
        (f16::NAN, f16::NAN, q)
    }
}

impl Group for Group8 {
    fn new(x: &[f32; GROUP]) -> Self {
        let (d, m, q) = affine(x, 255.0);
        Self { d, m, q }
    }

    fn numbers(&self) -> [f32; GROUP] {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        self.q.map(|q| d * f32::from(q) + m)
    }
}

impl Group for Group4 {
    fn new(x: &[f32; GROUP]) -> Self {
        let (d, m, q) = affine(x, 15.0);
        let q = std::array::from_fn(|i| q[i] | q[i + GROUP / 2] << 4);
        Self { d, m, q }
    }

    fn numbers(&self) -> [f32; GROUP] {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let mut numbers = [0.0; GROUP];
        let (low, high) = numbers.split_at_mut(GROUP / 2);
        for ((q, low), high) in self.q.iter().zip(low).zip(high) {
            *low = d * f32::from(q & 15) + m;
            *high = d * f32::from(q >> 4) + m;
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read is what was set, to each format's precision.
    #[test]
    fn blocks_keep_their_numbers() {
        for hd in [16, 20, 64, 80] {
            for (ty, tolerance) in [
                (KvType::F32, 0.0),
                (KvType::F16, 1e-3),
                (KvType::Q8, 0.01),
                (KvType::Q4, 0.15),
            ] {
                let number = |i: usize, d: usize| ((i * 37 + d * 11) % 101) as f32 / 50.0 - 1.0;
                let mut block = Block::new(ty, hd);
                for i in 0..BLOCK {
                    let key: Vec<f32> = (0..hd).map(|d| number(i, d)).collect();
                    let value: Vec<f32> = (0..hd).map(|d| number(i + 50, d)).collect();
                    block.set(i, &key, &value);
                }
                let mut block = block.quantized(ty, hd).unwrap_or(block);
                assert_eq!(matches!(block, Block::Q8(_)), ty == KvType::Q8);
                let check = |block: &Block| {
                    let (mut keys, mut values) =
                        (vec![9.0; BLOCK * hd], vec![9.0; BLOCK * width(hd)]);
                    block.read(hd, &mut keys, &mut values);
                    for i in 0..BLOCK {
                        for d in 0..hd {
                            let key = keys[(i / TILE * hd + d) * TILE + i % TILE];
                            assert!(
                                (key - number(i, d)).abs() <= tolerance,
                                "{ty:?} {hd} {i} {d}"
                            );
                            let value = values[i * width(hd) + d];
                            assert!(
                                (value - number(i + 50, d)).abs() <= tolerance,
                                "{ty:?} {hd}"
                            );
                        }
                    }
                };
                check(&block);
                // a block that is written again after a step back keeps the rest
                let again: Vec<f32> = (0..hd).map(|d| number(3, d)).collect();
                let value: Vec<f32> = (0..hd).map(|d| number(53, d)).collect();
                block.set(3, &again, &value);
                check(&block);
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        let mut x = [0.5; GROUP];
        x[3] = f32::INFINITY;
        assert!(Group8::new(&x).numbers()[3].is_nan());
        assert!(Group4::new(&x).numbers()[3].is_nan());
    }
}
