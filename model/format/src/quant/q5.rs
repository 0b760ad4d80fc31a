//! Q5_0 and Q5_1: 32 weights of 5 bits, the low four as in Q4, the fifth bit of weight `i` in bit `i` of a u32.
//!
//! ```text
//! Q5_0: d f16 | high bits u32 | 16 bytes           w = d (q - 16)
//! Q5_1: d f16 | m f16 | high bits u32 | 16 bytes   w = d q + m
//! ```

use super::half_float::half_at;

/// Q5_0 in the common form: `q` in -16..=15.
#[inline]
pub(super) fn unpack_0(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    d[0] = half_at(block, 0);
    m[0] = 0.0;
    quints(&block[2..22], q, 16);
}

/// Q5_1 in the common form: `q` in 0..=31.
#[inline]
pub(super) fn unpack_1(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    d[0] = half_at(block, 0);
    m[0] = half_at(block, 2);
    quints(&block[4..24], q, 0);
}

#[inline]
fn quints(bytes: &[u8], q: &mut [i8], offset: i8) {
    let (fifths, nibbles) = bytes.split_at(4);
    let (low, high) = q[..32].split_at_mut(16);
    let halves = low
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(high.as_chunks_mut::<8>().0);
    for (i, ((low, high), bytes)) in halves.zip(nibbles.as_chunks::<8>().0).enumerate() {
        let (low_fifths, high_fifths) = (spread(fifths[i]), spread(fifths[i + 2]));
        for j in 0..8 {
            low[j] = (bytes[j] & 15 | low_fifths[j]) as i8 - offset;
            high[j] = (bytes[j] >> 4 | high_fifths[j]) as i8 - offset;
        }
    }
}

/// 16 for every bit that is set, lowest first: bit i of byte i is kept, which 127 then carries to the byte's top.
#[inline]
fn spread(bits: u8) -> [u8; 8] {
    const EVERY: u64 = 0x0101_0101_0101_0101;
    let kept = (u64::from(bits) * EVERY) & 0x8040_2010_0804_0201;
    (((kept + 127 * EVERY) & (128 * EVERY)) >> 3).to_le_bytes()
}
