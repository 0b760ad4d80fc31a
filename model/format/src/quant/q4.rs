//! Q4_0 and Q4_1: 32 weights of 4 bits. Weight `i` is the low nibble of byte `i` for `i < 16`, the high nibble of
//! byte `i - 16` above.
//!
//! ```text
//! Q4_0: d f16 | 16 bytes           w = d (q - 8)
//! Q4_1: d f16 | m f16 | 16 bytes   w = d q + m
//! ```

use super::half_float::half_at;
use super::round;
use half::f16;

/// Q4_0 in the common form: `q` in -8..=7.
#[inline]
pub(super) fn unpack_0(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    d[0] = half_at(block, 0);
    m[0] = 0.0;
    nibbles(&block[2..18], q, 8);
}

/// Q4_1 in the common form: `q` in 0..=15.
#[inline]
pub(super) fn unpack_1(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    d[0] = half_at(block, 0);
    m[0] = half_at(block, 2);
    nibbles(&block[4..20], q, 0);
}

#[inline]
fn nibbles(bytes: &[u8], q: &mut [i8], offset: i8) {
    let (low, high) = q[..32].split_at_mut(16);
    for ((low, high), b) in low.iter_mut().zip(high).zip(bytes) {
        *low = (b & 15) as i8 - offset;
        *high = (b >> 4) as i8 - offset;
    }
}

/// Encodes blocks of Q4_0: the value of largest magnitude maps to -8 exactly, ties go to the first. A block that lies on
/// another grid of the format keeps it, so that what was decoded from Q4_0 encodes to the same values whatever chose
/// its scale.
pub(super) fn encode_0(x: &[f32], out: &mut Vec<u8>) {
    for x in x.as_chunks::<{ round::BLOCK }>().0 {
        // Adding 0 makes -0 positive: a block of zeros of either sign has the scale of positive ones.
        let largest = round::largest(x) + 0.0;
        let d = scale_in_use(x, largest).unwrap_or(largest / -8.0);
        out.extend(f16::from_f32(d).to_le_bytes());
        let q = round::q4_0(x, d);
        out.extend((0..16).map(|i| (q[i] | q[i + 16] << 4) as u8));
    }
}

/// The scale with which all of `x` is `d q`, if there is one that puts the largest value at 7 or below. (At -8 it is where
/// it goes anyway.) The grid of `-d` has the same values; a zero's sign says which of the two it was.
fn scale_in_use(x: &[f32], largest: f32) -> Option<f32> {
    if largest == 0.0 {
        return None;
    }
    let d = (1..=7i8)
        .rev()
        .map(f32::from)
        .filter_map(|level| {
            let d = f16::from_f32(largest / level).to_f32();
            (d * level == largest).then_some(d)
        })
        .find(|d| x.iter().all(|w| d * (w / d).round() == *w))?;
    match x.iter().find(|w| **w == 0.0) {
        Some(zero) => Some(d.copysign(*zero)),
        None => Some(d),
    }
}

/// Encodes blocks of Q4_1: the smallest value maps to 0, the largest to 15.
pub(super) fn encode_1(x: &[f32], out: &mut Vec<u8>) {
    for x in x.chunks_exact(32) {
        let min = x.iter().copied().fold(f32::MAX, f32::min);
        let max = x.iter().copied().fold(f32::MIN, f32::max);
        let d = (max - min) / 15.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        out.extend(f16::from_f32(d).to_le_bytes());
        out.extend(f16::from_f32(min).to_le_bytes());
        pack(x, out, |w| (w - min) * inverse + 0.5);
    }
}

/// Appends 16 bytes of nibbles, each `level(w)` cut to an integer and capped at 15.
fn pack(x: &[f32], out: &mut Vec<u8>, level: impl Fn(f32) -> f32) {
    let nibble = |w: f32| (level(w) as i8).min(15) as u8 & 15;
    out.extend((0..16).map(|i| nibble(x[i]) | nibble(x[i + 16]) << 4));
}

/// Appends 16 bytes of nibbles, each an integer `q + offset` in 0..=15.
pub(super) fn put(q: &[f32; 32], offset: f32, out: &mut Vec<u8>) {
    let nibble = |q: f32| (q + offset) as u8 & 15;
    out.extend((0..16).map(|i| nibble(q[i]) | nibble(q[i + 16]) << 4));
}
