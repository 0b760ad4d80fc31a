//! Half-precision numbers as f32.

/// The half-precision number at byte `at` of a block.
#[inline]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
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
