//! Q5_0 and Q5_1: 32 weights of 5 bits, the low four as in Q4, the fifth bit of weight `i` in bit `i` of a u32.
//!
//! ```text
//! Q5_0: d f16 | high bits u32 | 16 bytes           w = d (q - 16)
//! Q5_1: d f16 | m f16 | high bits u32 | 16 bytes   w = d q + m
//! ```

use super::half_at;

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
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let fifth = |i: usize| ((high >> i & 1) << 4) as i8;
    for (i, b) in bytes[4..20].iter().enumerate() {
        q[i] = ((b & 15) as i8 | fifth(i)) - offset;
        q[i + 16] = ((b >> 4) as i8 | fifth(i + 16)) - offset;
    }
}
