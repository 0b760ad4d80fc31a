//! One token times rows in the file's layout, two blocks of 32 weights to a vector of 512 bits.
//!
//! One row after another, so that memory is read in one straight line. Scales and minima come out of one product of
//! four numbers, `[d0, m0, d1, m1] * [dx0, s0, dx1, s1]` with `s = dx Σx`; of the result, the first and third are spread
//! over their block's lanes, the others summed on their own. Q4_0 takes nibbles that are 8 too large, which sums that
//! start at `-8 Σx` in one of a block's lanes undo. Q8_0 multiplies magnitudes with values that carry the weight's sign:
//! bytes 128 too large would be undone as exactly, but leave lanes large that cancel in single precision.

use super::vector::prefetch_ahead;
use crate::formats::{RowFormat, row_by_row};
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use std::arch::x86_64::*;

/// The initial sums of two blocks of `F`, with `-8 Σx` of both in the lower half of `starts`.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn begin<F: RowFormat>(starts: __m128i) -> __m512i {
    let starts = match F::TY {
        GgmlType::Q4_0 => starts,
        GgmlType::Q5_0 => _mm_add_epi32(starts, starts),
        _ => return _mm512_setzero_si512(),
    };
    // the first of each block's eight lanes
    let places = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_maskz_permutexvar_epi32(0x0101, places, _mm512_castsi128_si512(starts))
}

/// `[d, m]` of the blocks at `p` and `second` as four f32; `[d, d]` for formats without a minimum.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales<F: RowFormat>(p: *const u8, second: *const u8) -> __m128 {
    // SAFETY: every block has at least 4 bytes.
    let (a, b) = unsafe {
        (
            p.cast::<i32>().read_unaligned(),
            second.cast::<i32>().read_unaligned(),
        )
    };
    let halves = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(a), b);
    if F::MIN {
        _mm_cvtph_ps(halves)
    } else {
        _mm_cvtph_ps(_mm_shufflelo_epi16::<0b10_10_00_00>(halves))
    }
}

/// The weights of the blocks at `p` and `second`: unsigned as they are, or signed bytes.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn weights<F: RowFormat>(p: *const u8, second: *const u8) -> __m512i {
    // SAFETY: blocks end in 16 bytes of nibbles, or 32 of weights.
    unsafe {
        if F::TY == GgmlType::Q8_0 {
            let a = _mm512_castsi256_si512(_mm256_loadu_si256(p.add(2).cast()));
            return _mm512_inserti64x4::<1>(a, _mm256_loadu_si256(second.add(2).cast()));
        }
        let at = F::BYTES - 16;
        let a = _mm512_broadcast_i32x4(_mm_loadu_si128(p.add(at).cast()));
        let b = _mm_loadu_si128(second.add(at).cast());
        let both = _mm512_mask_broadcast_i32x4(a, 0xff00, b);
        let shift = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
        let nibbles = _mm512_and_si512(
            _mm512_srlv_epi64(both, shift),
            _mm512_set1_epi32(0x0f0f_0f0f),
        );
        if !matches!(F::TY, GgmlType::Q5_0 | GgmlType::Q5_1) {
            return nibbles;
        }
        let fifth_bits = |p: *const u8| u64::from(p.add(at - 4).cast::<u32>().read_unaligned());
        let set = fifth_bits(p) | fifth_bits(second) << 32;
        _mm512_mask_add_epi8(nibbles, set, nibbles, _mm512_set1_epi8(16))
    }
}

/// `start` and the sums of four neighbours each, of the blocks at `p` and `second` with `values`, which are never -128.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot<F: RowFormat>(
    start: __m512i,
    p: *const u8,
    second: *const u8,
    values: __m512i,
) -> __m512i {
    // SAFETY: the caller has a whole block at each.
    let w = unsafe { weights::<F>(p, second) };
    if F::TY != GgmlType::Q8_0 {
        return _mm512_dpbusd_epi32(start, w, values);
    }
    let negative = _mm512_movepi8_mask(w);
    let values = _mm512_mask_sub_epi8(values, negative, _mm512_setzero_si512(), values);
    _mm512_dpbusd_epi32(start, _mm512_abs_epi8(w), values)
}

/// One row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn row<F: RowFormat>(mut w: *const u8, x: Int8Row) -> f32 {
    let spread = _mm512_set_epi32(2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0);
    let (mut sums, mut mins) = (_mm512_setzero_ps(), _mm_setzero_ps());
    let mut q = x.q.as_ptr();
    let (pairs, last) = x.scales.as_chunks::<2>();
    let (starts, last_start) = x.starts.as_chunks::<2>();
    for (pair, starts) in pairs.iter().zip(starts) {
        // SAFETY: the row has as many blocks as `x` has scales, and `x` 32 values for each (see `gemv`).
        unsafe {
            let second = w.add(F::BYTES);
            prefetch_ahead(w, 2 * F::BYTES);
            let factors = _mm_mul_ps(
                scales::<F>(w, second),
                _mm_loadu_ps(pair.as_flattened().as_ptr()),
            );
            let values = _mm512_loadu_si512(q.cast());
            let start = begin::<F>(_mm_loadl_epi64(starts.as_ptr().cast()));
            let ints = dot::<F>(start, w, second, values);
            let factor = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(factors));
            sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(ints), factor, sums);
            if F::MIN {
                mins = _mm_add_ps(mins, factors);
            }
            w = w.add(2 * F::BYTES);
            q = q.add(64);
        }
    }
    for (scale, start) in last.iter().zip(last_start) {
        // SAFETY: as above; the block stands for both, and the values of the second are zeros.
        unsafe {
            let scale = _mm_set_ps(0.0, 0.0, scale[1], scale[0]);
            let factors = _mm_mul_ps(scales::<F>(w, w), scale);
            let values = _mm512_castsi256_si512(_mm256_loadu_si256(q.cast()));
            let values = _mm512_maskz_mov_epi64(0x0f, values);
            let start = begin::<F>(_mm_cvtsi32_si128(*start));
            let ints = dot::<F>(start, w, w, values);
            let factor = _mm512_maskz_permutexvar_ps(0xff, spread, _mm512_castps128_ps512(factors));
            sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(ints), factor, sums);
            if F::MIN {
                mins = _mm_add_ps(mins, factors);
            }
        }
    }
    let min = _mm_cvtss_f32(_mm_movehdup_ps(_mm_add_ps(mins, _mm_movehl_ps(mins, mins))));
    _mm512_reduce_add_ps(sums) + min
}

row_by_row!("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni");
