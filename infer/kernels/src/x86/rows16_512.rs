//! Panels of sixteen rows (see `rows16.rs`), times one token or eight, all sixteen rows in one vector of 512 bits.

use super::rows16::{check_tile, scaled_sums, start};
use super::vector::{keep_in_register, prefetch_ahead};
use crate::activation_tiles::{TOKENS, TileOutput, TokenTile};
use crate::formats::panel_bytes;
use crate::int8::Int8Row;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::x86_64::*;

/// Unit `u` of sixteen rows as unsigned weights: the lower nibbles and the upper ones, or units 2u and 2u + 1 of bytes,
/// 128 too large. They meet values `first` and `second`.
struct UnsignedUnit {
    low: __m512i,
    high: __m512i,
    first: usize,
    second: usize,
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn unit<F: Format>(p: *const u8, u: usize) -> UnsignedUnit {
    // SAFETY: the caller has a whole block at `p`.
    let load = |u: usize| unsafe { _mm512_loadu_si512(p.add(F::WEIGHTS + 64 * u).cast()) };
    if F::NIBBLES {
        let mask = _mm512_set1_epi32(0x0f0f_0f0f);
        return UnsignedUnit {
            low: _mm512_and_si512(load(u), mask),
            high: _mm512_and_si512(_mm512_srli_epi32::<4>(load(u)), mask),
            first: u,
            second: u + 4,
        };
    }
    let flip = _mm512_set1_epi32(0x8080_8080_u32 as i32);
    UnsignedUnit {
        low: _mm512_xor_si512(load(2 * u), flip),
        high: _mm512_xor_si512(load(2 * u + 1), flip),
        first: 2 * u,
        second: 2 * u + 1,
    }
}

/// Sixteen scales of a block, or with `of` 1 its minima.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn row_scales(p: *const u8, of: usize) -> __m512 {
    // SAFETY: the caller has a whole block at `p`, of a format with minima if they are asked for.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast::<__m256i>().add(of))) }
}

/// Panels times one token, all sixteen rows in one vector.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn gemv<F: Format>(panels: &[u8], x: Int8Row, y: &mut [f32]) {
    let (blocks, bytes) = (x.scales.len(), panel_bytes::<F>(panels, &x, y));
    let panels = panels.chunks_exact(bytes);
    for (panel, y) in panels.zip(y.chunks_exact_mut(ROWS)) {
        let (mut acc, mut mins) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for b in 0..blocks {
            // SAFETY: `panel_bytes`: the panel has `blocks` blocks, the token 32 values for each.
            unsafe {
                let p = panel.as_ptr().add(b * F::BLOCK);
                prefetch_ahead(p, F::BLOCK);
                let values = x.q.as_ptr().cast::<i32>().add(8 * b);
                let value = |u| _mm512_set1_epi32(values.add(u).read_unaligned());
                let mut even = _mm512_set1_epi32(start::<F>(x.starts[b]));
                let mut odd = _mm512_setzero_si512();
                for u in 0..4 {
                    let w = unit::<F>(p, u);
                    even = _mm512_dpbusd_epi32(even, w.low, value(w.first));
                    odd = _mm512_dpbusd_epi32(odd, w.high, value(w.second));
                }
                let [scale, s] = x.scales[b];
                let scales = _mm512_mul_ps(row_scales(p, 0), _mm512_set1_ps(scale));
                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                acc = _mm512_fmadd_ps(sum, scales, acc);
                if F::MIN {
                    mins = _mm512_fmadd_ps(row_scales(p, 1), _mm512_set1_ps(s), mins);
                }
            }
        }
        if F::MIN {
            acc = _mm512_add_ps(acc, mins);
        }
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), acc) };
    }
}

/// One panel times eight tokens.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn tile<F: Format>(panel: &[u8], x: &TokenTile, out: &mut TileOutput) {
    check_tile::<F>(panel, x);
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    let mut mins = acc;
    let mut block = panel.as_ptr();
    let mut columns = x.q.as_ptr().cast::<i32>();
    for (b, (d, [_, _, less_8])) in x.d.iter().zip(x.sums).enumerate() {
        // SAFETY: `check_tile`: the panel has a block for every scale, the tokens 32 values for each; values u of a
        // token lie in the 8 columns u / 2.
        unsafe {
            let (p, values) = (keep_in_register(block), keep_in_register(columns));
            let mut sums: [__m512i; TOKENS] =
                std::array::from_fn(|t| _mm512_set1_epi32(start::<F>(less_8[t])));
            for u in 0..4 {
                let w = unit::<F>(p, u);
                let value = |u: usize, t: usize| {
                    let at = u / 2 * 2 * TOKENS + 2 * t + u % 2;
                    _mm512_set1_epi32(values.add(at).read_unaligned())
                };
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, w.low, value(w.first, t));
                }
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_dpbusd_epi32(*sum, w.high, value(w.second, t));
                }
            }
            let rows = row_scales(p, 0);
            for t in 0..TOKENS {
                let scales = _mm512_mul_ps(rows, _mm512_set1_ps(d[t]));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales, acc[t]);
            }
            if F::MIN {
                let (rows, sums) = (row_scales(p, 1), scaled_sums(x, b));
                for t in 0..TOKENS {
                    mins[t] = _mm512_fmadd_ps(rows, _mm512_set1_ps(sums[t]), mins[t]);
                }
            }
            block = p.add(F::BLOCK);
            columns = values.add(8 * TOKENS);
        }
    }
    for (out, (acc, min)) in out.iter_mut().zip(acc.into_iter().zip(mins)) {
        let sum = if F::MIN { _mm512_add_ps(acc, min) } else { acc };
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
}
