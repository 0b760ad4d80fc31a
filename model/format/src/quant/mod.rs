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
pub mod k;
mod q4;
mod q5;
mod q8;
pub mod round;
pub mod rows16;
pub mod search;

use crate::{Error, Result};

/// A tensor's element format, by ggml's name.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision number.
    BF16,
    /// 4 bits, 32 to a block, one f16 scale: `w = d (q - 8)`.
    Q4_0,
    /// 4 bits, 32 to a block, f16 scale and minimum: `w = d q + m`.
    Q4_1,
    /// 5 bits, 32 to a block, one f16 scale: `w = d (q - 16)`.
    Q5_0,
    /// 5 bits, 32 to a block, f16 scale and minimum.
    Q5_1,
    /// 8 bits, 32 to a block, one f16 scale: `w = d q`.
    Q8_0,
    /// 4 bits, 256 to a block in 8 groups with 6-bit scales and minima.
    Q4_K,
    /// 5 bits, 256 to a block in 8 groups with 6-bit scales and minima.
    Q5_K,
    /// 6 bits, 256 to a block in 16 groups with 8-bit scales.
    Q6_K,
}

use GgmlType::*;

impl GgmlType {
    /// Every format that is read here.
    pub const ALL: [GgmlType; 11] = [
        F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K,
    ];

    /// The id that stands in a GGUF file.
    pub const fn id(self) -> u32 {
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q5_0 => 6,
            Q5_1 => 7,
            Q8_0 => 8,
            Q4_K => 12,
            Q5_K => 13,
            Q6_K => 14,
            BF16 => 30,
        }
    }

    /// The format of a GGUF id, if it is one that is read here.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// ggml's name, as in `Q4_0`.
    pub const fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q4_K => "Q4_K",
            Q5_K => "Q5_K",
            Q6_K => "Q6_K",
        }
    }

    /// Weights in one block.
    pub const fn block_size(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 => 32,
            Q4_K | Q5_K | Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn bytes_per_block(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q4_0 => 2 + 16,
            Q4_1 => 4 + 16,
            Q5_0 => 2 + 4 + 16,
            Q5_1 => 4 + 4 + 16,
            Q8_0 => 2 + 32,
            Q4_K => 4 + 12 + 128,
            Q5_K => 4 + 12 + 32 + 128,
            Q6_K => 128 + 64 + 16 + 2,
        }
    }

    /// Weights that share one scale, or 0 for a float format.
    pub const fn group_size(self) -> usize {
        match self {
            F32 | F16 | BF16 => 0,
            Q6_K => 16,
            _ => 32,
        }
    }

    /// Whether groups carry a minimum `m` besides the scale.
    pub const fn has_min(self) -> bool {
        matches!(self, Q4_1 | Q5_1 | Q4_K | Q5_K)
    }

    /// Whether weights are integers with scales, so that activations are taken as int8 too.
    pub const fn is_quantized(self) -> bool {
        self.group_size() != 0
    }

    /// Bytes of a row of `cols` weights; none if `cols` is no multiple of the block size or the product overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_size()) {
            return None;
        }
        (cols / self.block_size()).checked_mul(self.bytes_per_block())
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

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

/// The half-precision number at byte `at` of a block.
#[inline]
fn half_at(block: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Half to single precision without branches, tables or run-time detection, so that loops over it vectorise: the
/// exponent is moved into place and set right by a multiplication by 2^112, which also makes subnormals normal.
#[inline]
pub fn half_to_f32(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let infinite = if bits & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(magnitude.to_bits() | infinite | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests;
