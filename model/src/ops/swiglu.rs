//! SwiGLU (Shazeer, arXiv 2002.05202): `y = silu(gate) · up`, element by element, and its
//! gradient. With s = sigmoid(gate): `d up = dy · gate · s` and
//! `d gate = dy · up · s · (1 + gate · (1 − s))`.

use rayon::prelude::*;

use super::vector::{sigmoid, simd};

/// Elements that one task does.
const PART: usize = 1 << 14;

/// Fills `y`; all of one size.
pub(crate) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let parts = y.par_chunks_mut(PART).zip(gate.par_chunks(PART));
    parts.zip(up.par_chunks(PART)).for_each(|((y, gate), up)| {
        simd(
            #[inline(always)]
            || {
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g * sigmoid(*g) * u;
                }
            },
        )
    });
}

/// Fills `dgate`, and `dup` in the place of `dy`; all of one size.
pub(crate) fn backward(gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let outs = dgate.par_chunks_mut(PART).zip(dup.par_chunks_mut(PART));
    let ins = gate.par_chunks(PART).zip(up.par_chunks(PART));
    outs.zip(ins).for_each(|((dgate, dup), (gate, up))| {
        simd(
            #[inline(always)]
            || {
                let outs = dgate.iter_mut().zip(dup.iter_mut());
                for ((dg, du), (g, u)) in outs.zip(gate.iter().zip(up)) {
                    let (s, dy) = (sigmoid(*g), *du);
                    *du = dy * g * s;
                    *dg = dy * u * s * (1.0 + g * (1.0 - s));
                }
            },
        )
    });
}
