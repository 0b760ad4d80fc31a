//! Number formats of weights: rows of f32 to and from ggml's block layouts.
//!
//! A row of `n` weights (`n` a multiple of the format's block size) is stored as consecutive blocks. Every
//! quantized format here is affine over *groups* of 32 (Q6_K: 16) neighbouring weights,
//!
//! ```text
//! w = d * q + m        q: i8, d and m: f32, one pair per group
//! ```
//!
//! and [`unpack_row`] brings any of them into that common form, from which dequantization is one multiply and one
//! add, and from which the matrix product builds its panels. Layouts: ggml's `ggml-common.h` (block structs) and
//! the GGUF specification's type ids. All numbers are little-endian.
//!
//! The encoders follow ggml's reference rounding, so that a file written here equals, byte for byte, one quantized
//! by llama.cpp from the same values; but for blocks of Q4_0 that lie on a grid of the format already, which keep it
//! where llama.cpp would round them once more.

mod float;
mod ggml_type;
mod half_float;
pub mod k;
mod q4;
mod q5;
mod q8;
pub mod round;
pub mod rows16;
pub mod search;

use crate::error::{Error, Result};
pub use ggml_type::GgmlType;
use ggml_type::GgmlType::*;
pub use half_float::half_to_f32;

/// Checks that `bytes` hold exactly `cols` weights of format `ty`.
fn check(what: &'static str, ty: GgmlType, bytes: usize, cols: usize) -> Result<()> {
    if ty.row_bytes(cols) == Some(bytes) {
        return Ok(());
    }
    Err(Error::shape(
        what,
        format!(
            "{cols} weights of {ty} do not fit {bytes} bytes ({} bytes per {} weights)",
            ty.bytes_per_block(),
            ty.block_size()
        ),
    ))
}

/// Decodes one row, or several consecutive ones, to f32.
pub fn dequantize_row(ty: GgmlType, data: &[u8], out: &mut [f32]) -> Result<()> {
    check("dequantize_row", ty, data.len(), out.len())?;
    match ty {
        F32 | F16 | BF16 => float::decode(ty, data, out),
        _ => {
            let (mut q, mut d, mut m) = ([0i8; 256], [0f32; 16], [0f32; 16]);
            let (size, group) = (ty.block_size(), ty.group_size());
            let blocks = data.chunks_exact(ty.bytes_per_block());
            for (block, out) in blocks.zip(out.chunks_exact_mut(size)) {
                unpack_block(ty, block, &mut q, &mut d, &mut m);
                for (g, out) in out.chunks_exact_mut(group).enumerate() {
                    for (w, q) in out.iter_mut().zip(&q[g * group..]) {
                        *w = d[g] * f32::from(*q);
                        if ty.has_min() {
                            *w += m[g]; // adding zero would lose the sign of a zero
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Brings a row of a quantized format into the form `w = d q + m`: `q` holds one integer per weight, `d` and `m` one
/// number per group (`m` is zero throughout where the format has no minimum).
pub fn unpack_row(
    ty: GgmlType,
    data: &[u8],
    q: &mut [i8],
    d: &mut [f32],
    m: &mut [f32],
) -> Result<()> {
    check("unpack_row", ty, data.len(), q.len())?;
    let group = ty.group_size();
    if group == 0 || d.len() != q.len() / group || m.len() != d.len() {
        let problem = format!(
            "{} weights of {ty} with {} scales and {} minima",
            q.len(),
            d.len(),
            m.len()
        );
        return Err(Error::shape("unpack_row", problem));
    }
    let (size, groups) = (ty.block_size(), ty.block_size() / group);
    let blocks = data
        .chunks_exact(ty.bytes_per_block())
        .zip(q.chunks_exact_mut(size));
    for (((block, q), d), m) in blocks
        .zip(d.chunks_exact_mut(groups))
        .zip(m.chunks_exact_mut(groups))
    {
        unpack_block(ty, block, q, d, m);
    }
    Ok(())
}

/// One block into integers, scales and minima; the slices are at least as long as the block needs.
#[inline]
pub fn unpack_block(ty: GgmlType, block: &[u8], q: &mut [i8], d: &mut [f32], m: &mut [f32]) {
    match ty {
        Q4_0 => q4::unpack_0(block, q, d, m),
        Q4_1 => q4::unpack_1(block, q, d, m),
        Q5_0 => q5::unpack_0(block, q, d, m),
        Q5_1 => q5::unpack_1(block, q, d, m),
        Q8_0 => q8::unpack(block, q, d, m),
        Q4_K => k::unpack_4(block, q, d, m),
        Q5_K => k::unpack_5(block, q, d, m),
        Q6_K => k::unpack_6(block, q, d, m),
        F32 | F16 | BF16 => {}
    }
}

/// Encodes a row, appending its blocks to `out`. Formats: F32, F16, BF16, Q8_0, Q4_0, Q4_1.
///
/// Values must be finite: a block with a NaN or an infinity encodes to garbage, so callers check first.
pub fn quantize_row(ty: GgmlType, x: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let Some(bytes) = ty.row_bytes(x.len()) else {
        let problem = format!(
            "{} weights are no multiple of {ty}'s block of {}",
            x.len(),
            ty.block_size()
        );
        return Err(Error::shape("quantize_row", problem));
    };
    out.reserve(bytes);
    match ty {
        F32 | F16 | BF16 => float::encode(ty, x, out),
        Q8_0 => q8::encode(x, out),
        Q4_0 => q4::encode_0(x, out),
        Q4_1 => q4::encode_1(x, out),
        Q5_0 | Q5_1 | Q4_K | Q5_K | Q6_K => {
            return Err(Error::Argument(format!(
                "{ty} is read but not written; quantize to F32, F16, BF16, Q8_0, Q4_0 or Q4_1"
            )));
        }
    }
    Ok(())
}

/// Whether every weight of `x` has a finite value in format `ty`; block formats are not looked at.
pub fn fits(ty: GgmlType, x: &[f32]) -> bool {
    /// Halfway from the largest half to the next power of two: from here on rounding gives infinity.
    const HALF_LIMIT: f32 = 65_520.0;
    /// The same for BF16.
    const BRAIN_LIMIT: f32 = f32::from_bits(0x7f7f_8000);
    let limit = match ty {
        F16 => HALF_LIMIT,
        BF16 => BRAIN_LIMIT,
        _ => return true,
    };
    x.iter().all(|w| w.abs() < limit)
}

#[cfg(test)]
mod tests;
