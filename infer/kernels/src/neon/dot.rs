//! Sixteen signed products added to four sums, four neighbours to each.

use std::arch::aarch64::*;

/// Without the dot product instructions: two widening multiplies add pairs in i16, which hold two products of at most
/// 128 × 127, and one pairwise addition widens.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn neon(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let pairs = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    vpadalq_s16(sums, vmlal_high_s8(pairs, w, x))
}

/// With `sdot`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dotprod(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction touches these registers only.
    unsafe {
        std::arch::asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums, in(vreg) w, in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}
