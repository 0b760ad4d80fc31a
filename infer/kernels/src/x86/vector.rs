//! Helpers of several x86 kernels: prefetching, a horizontal sum, a pointer kept in its register.

use std::arch::x86_64::*;

/// The distance in bytes at which weights are prefetched where they are read once and in a straight line. The
/// processor's own prefetching stops at the end of a page.
const AHEAD: usize = 4096;

/// Prefetches the `bytes` bytes that come [`AHEAD`] of `p`, which may be anywhere.
#[inline(always)]
pub(super) fn prefetch_ahead(p: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        // SAFETY: a prefetch never faults and changes nothing that a program can see; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(AHEAD + 64 * line).cast()) };
    }
}

/// The sum of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

/// A pointer that the compiler keeps in a register of its own. It would otherwise address all arrays by one index,
/// and an instruction with three operands and an indexed address takes two places in the processor's front end.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // nothing is read through it there
pub(super) fn keep_in_register<T>(mut p: *const T) -> *const T {
    // SAFETY: no instruction; the pointer comes out as it went in.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags));
    }
    p
}
