//! The K formats: blocks of 256 weights with small integer scales per group under one or two f16 scales.
//!
//! ```text
//! Q4_K: d f16 | dmin f16 | 12 bytes: 8 × (scale, min) of 6 bits | 128 bytes of nibbles
//! Q5_K: d f16 | dmin f16 | the same 12 bytes | 32 bytes of fifth bits | 128 bytes of nibbles
//!       w = (d scale) q - (dmin min), 8 groups of 32
//! Q6_K: 128 bytes of nibbles | 64 bytes of upper bit pairs | 16 × i8 scale | d f16
//!       w = (d scale) (q - 32), 16 groups of 16
//! ```

use super::half_float::half_at;

/// The eight scales and the eight minima out of the 12 packed bytes: groups 0..4 lie in the low six bits of bytes
/// 0..8, groups 4..8 in the nibbles of bytes 8..12 with their top two bits in those of bytes 0..8.
#[inline]
pub fn scales_mins(packed: &[u8; 12]) -> [[u8; 8]; 2] {
    let (words, _) = packed.as_chunks::<4>();
    let [a, b, c] = [words[0], words[1], words[2]].map(u32::from_le_bytes);
    let six = |word| word & 0x3f3f_3f3f;
    let upper = |nibbles: u32, word: u32| nibbles & 0x0f0f_0f0f | (word >> 6 & 0x0303_0303) << 4;
    let parts = [six(a), upper(c, a), six(b), upper(c >> 4, b)];
    bytemuck::cast(parts.map(u32::to_le))
}

#[inline]
fn scales(block: &[u8], d: &mut [f32], m: &mut [f32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&block[4..16]);
    let [scales, minima] = scales_mins(&packed);
    for g in 0..8 {
        d[g] = scale * f32::from(scales[g]);
        m[g] = -(min * f32::from(minima[g]));
    }
}

/// Q4_K in the common form: `q` in 0..=15. Byte `i` of each 32 holds weight `i` (low) and `i + 32` (high).
#[inline]
pub(super) fn unpack_4(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    scales(block, d, m);
    for (q, bytes) in q[..256]
        .chunks_exact_mut(64)
        .zip(block[16..144].chunks_exact(32))
    {
        let (low, high) = q.split_at_mut(32);
        for ((low, high), b) in low.iter_mut().zip(high).zip(bytes) {
            *low = (b & 15) as i8;
            *high = (b >> 4) as i8;
        }
    }
}

/// Q5_K in the common form: `q` in 0..=31. The fifth bit of weight `32 g + i` is bit `g` of byte `i`.
#[inline]
pub(super) fn unpack_5(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    scales(block, d, m);
    let fifths = &block[16..48];
    for (pair, (q, bytes)) in q[..256]
        .chunks_exact_mut(64)
        .zip(block[48..176].chunks_exact(32))
        .enumerate()
    {
        let (low, high) = q.split_at_mut(32);
        for (((low, high), b), f) in low.iter_mut().zip(high).zip(bytes).zip(fifths) {
            *low = (b & 15 | (f >> (2 * pair) & 1) << 4) as i8;
            *high = (b >> 4 | (f >> (2 * pair + 1) & 1) << 4) as i8;
        }
    }
}

/// Q6_K in the common form: `q` in -32..=31. Each half of 128 weights has 64 bytes of nibbles and 32 of bit pairs.
#[inline]
pub(super) fn unpack_6(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    let scale = half_at(block, 208);
    for (g, s) in block[192..208].iter().enumerate() {
        d[g] = scale * f32::from(*s as i8);
        m[g] = 0.0;
    }
    for (half, q) in q[..256].chunks_exact_mut(128).enumerate() {
        let nibbles = &block[half * 64..half * 64 + 64];
        let pairs = &block[128 + half * 32..128 + half * 32 + 32];
        for i in 0..32 {
            let (a, b, p) = (nibbles[i], nibbles[i + 32], pairs[i]);
            q[i] = (a & 15 | (p & 3) << 4) as i8 - 32;
            q[i + 32] = (b & 15 | (p >> 2 & 3) << 4) as i8 - 32;
            q[i + 64] = (a >> 4 | (p >> 4 & 3) << 4) as i8 - 32;
            q[i + 96] = (b >> 4 | (p >> 6) << 4) as i8 - 32;
        }
    }
}
