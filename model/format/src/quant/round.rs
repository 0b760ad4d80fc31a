//! The rounding of one block of 32 numbers to integers and scales, the same for what an export
//! encodes, for what the engine keeps of activations, keys and values, and for the trainer's fake
//! quantization, which dequantizes the integers at once. Loops vectorize where they are inlined.
//!
//! Numbers are finite; what others round to is not defined, except where a function says so.

use half::f16;

/// Numbers in a block.
pub const BLOCK: usize = 32;

/// A block of numbers.
pub type Block = [f32; BLOCK];

/// The levels that [`nearest_q4_scale`] tries for the largest number, in this order. A block that
/// was rounded to 4 bits has it on one of them but for the rare one that uses fewer levels; −7 is
/// 7 with the sign of the scale changed.
pub const NEAREST_LEVELS: [f32; 3] = [-8.0, 7.0, 6.0];

/// `d` as it is stored.
#[inline(always)]
pub fn half(d: f32) -> f32 {
    f16::from_f32(d).to_f32()
}

/// `1 / d`, or 0 for a `d` of 0.
#[inline(always)]
pub fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// The largest magnitude.
#[inline(always)]
fn magnitude(x: &Block) -> f32 {
    x.iter().fold(0f32, |most, w| most.max(w.abs()))
}

/// The number of the largest magnitude; of several the first.
#[inline(always)]
pub fn largest(x: &Block) -> f32 {
    let magnitude = magnitude(x);
    let mut largest = 0.0;
    for &w in x.iter().rev() {
        largest = if w.abs() == magnitude { w } else { largest };
    }
    largest
}

/// Integers 0 to 15 of Q4_0 with the scale `d`, not yet in f16: `x ≈ d (q − 8)`.
#[inline(always)]
pub fn q4_0(x: &Block, d: f32) -> [i32; BLOCK] {
    let inverse = inverse(d);
    x.map(|w| ((w * inverse + 8.5) as i32).min(15))
}

/// Whether a number lies within the levels of Q4_0 with the scale of this `inverse`.
#[inline(always)]
pub fn within_q4_0(x: f32, inverse: f32) -> bool {
    x * inverse + 8.5 < 16.0
}

/// Of the scales that put the number `largest` of the largest magnitude on one of
/// [`NEAREST_LEVELS`], the one with the least squared error.
#[inline(always)]
pub fn nearest_q4_scale(x: &Block, largest: f32) -> f32 {
    let (mut best, mut least) = (0.0, f32::INFINITY);
    for level in NEAREST_LEVELS {
        let d = largest / level;
        let (q, stored) = (q4_0(x, d), half(d));
        let mut lanes = [0f32; 8];
        for i in 0..BLOCK {
            let error = x[i] - stored * (q[i] - 8) as f32;
            lanes[i % 8] += error * error;
        }
        let error = lanes.iter().sum();
        if error < least {
            (best, least) = (d, error);
        }
    }
    best
}

/// The scale of Q8_0, not yet in f16, and integers to ±127: `x ≈ d q`, halves away from zero.
#[inline(always)]
pub fn q8_0(x: &Block) -> (f32, [i32; BLOCK]) {
    let d = magnitude(x) / 127.0;
    let inverse = inverse(d);
    (d, x.map(|w| (w * inverse).round() as i32))
}

/// The f32 scale of activations and integers to ±127: `x ≈ d q`, halves to even. A number that is
/// not finite gives a scale that is none, and zeros.
#[inline(always)]
pub fn int8(x: &Block) -> (f32, [i32; BLOCK]) {
    // Adding 1.5 · 2²³ leaves the integer, rounded to even, in the low bits of the float.
    const ROUND: f32 = 12_582_912.0;
    let mut largest = [0u32; 8];
    for x in x.as_chunks::<8>().0 {
        for (l, x) in largest.iter_mut().zip(x) {
            *l = (*l).max(x.to_bits() & 0x7fff_ffff);
        }
    }
    let largest = f32::from_bits(largest.iter().copied().fold(0, u32::max));
    let d = largest / 127.0;
    // A subnormal scale has an infinite inverse; such a block is zero for every purpose.
    let inverse = if d >= f32::MIN_POSITIVE { 1.0 / d } else { 0.0 };
    let (d, inverse) = if largest < f32::INFINITY {
        (d, inverse)
    } else {
        (f32::NAN, 0.0)
    };
    let mut integers = [0i32; BLOCK];
    for (i, x) in integers.iter_mut().zip(x) {
        let x = if inverse == 0.0 { 0.0 } else { *x * inverse };
        *i = ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    }
    (d, integers)
}

/// Keys or values with a scale and a minimum in f16 (KIVI, arXiv 2402.02750): `x ≈ d q + m`, q from
/// 0 to `steps`, in f32, as the trainer goes on with them.
#[inline(always)]
pub fn affine(x: &Block, steps: f32) -> (f16, f16, Block) {
    let least = x.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let m = f16::from_f32(least);
    let d = f16::from_f32((largest - m.to_f32()).max(0.0) / steps);
    let inverse = if d.to_f32() > 0.0 {
        1.0 / d.to_f32()
    } else {
        0.0
    };
    let q = x.map(|x| ((x - m.to_f32()) * inverse).round().clamp(0.0, steps));
    (d, m, q)
}
