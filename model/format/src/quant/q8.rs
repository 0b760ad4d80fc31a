//! Q8_0: 32 weights of 8 bits, `d f16 | 32 × i8`, `w = d q`.

use super::half_float::half_at;
use super::round;
use half::f16;

/// Q8_0 in the common form; a file may hold -128, the encoder never writes it.
#[inline]
pub(super) fn unpack(block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    d[0] = half_at(block, 0);
    m[0] = 0.0;
    for (q, b) in q[..32].iter_mut().zip(&block[2..34]) {
        *q = *b as i8;
    }
}

/// Encodes blocks: the largest magnitude maps to 127, halves round away from zero.
pub(super) fn encode(x: &[f32], out: &mut Vec<u8>) {
    for x in x.as_chunks::<{ round::BLOCK }>().0 {
        let (d, q) = round::q8_0(x);
        out.extend(f16::from_f32(d).to_le_bytes());
        out.extend(q.iter().map(|q| *q as i8 as u8));
    }
}

/// Appends 32 bytes, each an integer in -127..=127.
pub(super) fn put(q: &[f32; 32], out: &mut Vec<u8>) {
    out.extend(q.iter().map(|q| *q as i8 as u8));
}
