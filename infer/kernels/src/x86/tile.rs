//! A panel of sixteen unpacked rows times eight tokens (layouts in `panel.rs` and `activation_tiles.rs`): each 4-byte lane is a
//! row's next four weights, the token's four values are broadcast to all lanes, so lanes add up to rows.
//!
//! The VNNI kernels need unsigned weights and get them 128 too large; their sums start at `-128 Σx`, which the
//! activations carry, so the integers come out exact. AVX2 alone multiplies magnitudes with values of moved signs.

use super::dot;
use super::vector::keep_in_register;
use crate::activation_tiles::{TOKENS, TileOutput, TokenTile};
use crate::int8::BLOCK;
use crate::panel::{Panel, Unit};
use retort_format::quant::rows16::ROWS;
use std::arch::x86_64::*;

/// Tokens that eight rows take at a time in the sixteen registers of AVX2.
const PART: usize = 4;

/// `-128 Σ` of token `t` over group `g`: half a block for groups of 16, else the whole.
#[inline(always)]
fn start<const G: usize>(x: &TokenTile, g: usize, t: usize) -> i32 {
    if G == 16 {
        x.sums[g / 2][g % 2][t] * -128
    } else {
        x.sums[g][2][t] * 16
    }
}

/// Kernels of eight rows at a time: `$start(x, group, token)` and `$dot(sum, weights, values)`.
macro_rules! eight_rows {
    ($tile:ident, $part:ident, $features:literal, $start:expr, $dot:path) => {
        #[target_feature(enable = $features)]
        pub(super) fn $tile(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
            p.check(x);
            for first in (0..TOKENS).step_by(PART) {
                for half in 0..2 {
                    if p.group == 16 {
                        $part::<16>(p, x, first, half, out);
                    } else {
                        $part::<32>(p, x, first, half, out);
                    }
                }
            }
        }

        /// Rows `8 half .. 8 half + 8`, tokens `first .. first + PART`.
        #[inline]
        #[target_feature(enable = $features)]
        fn $part<const G: usize>(
            p: &Panel,
            x: &TokenTile,
            first: usize,
            half: usize,
            out: &mut TileOutput,
        ) {
            let mut acc = [_mm256_setzero_ps(); PART];
            for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
                let mut sums: [__m256i; PART] =
                    std::array::from_fn(|t| _mm256_set1_epi32($start(x, g, first + t)));
                for k in g * (G / 4)..(g + 1) * (G / 4) {
                    // SAFETY: `Panel::check`: there are `group / 4` vectors of 16 rows per group, and 8 values of each
                    // token for every two vectors.
                    unsafe {
                        let w = p.q.as_ptr().add(k).cast::<__m256i>().add(half);
                        let w = _mm256_loadu_si256(w);
                        let values = x.q.as_ptr().add(k / 2).cast::<i32>().add(k % 2 + 2 * first);
                        for t in 0..PART {
                            let v = _mm256_set1_epi32(values.add(2 * t).read_unaligned());
                            sums[t] = $dot(sums[t], w, v);
                        }
                    }
                }
                // SAFETY: both are arrays of 16 floats.
                let (d, m) = unsafe {
                    (
                        _mm256_loadu_ps(d.as_ptr().add(8 * half)),
                        _mm256_loadu_ps(m.as_ptr().add(8 * half)),
                    )
                };
                for t in 0..PART {
                    let (block, token) = (g * G / BLOCK, first + t);
                    let (scale, s) = (x.d[block][token], x.scaled_sum(block, token));
                    let scales = _mm256_mul_ps(d, _mm256_set1_ps(scale));
                    acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), scales, acc[t]);
                    if p.has_min {
                        acc[t] = _mm256_fmadd_ps(m, _mm256_set1_ps(s), acc[t]);
                    }
                }
            }
            for (out, acc) in out[first..].iter_mut().zip(acc) {
                // SAFETY: 16 floats, of which this half's 8.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), acc) };
            }
        }
    };
}

eight_rows!(
    avx2,
    avx2_part,
    "avx2,fma",
    |_, _, _| 0,
    dot::avx2::dot_signed
);
eight_rows!(
    vnni,
    vnni_part,
    "avx2,fma,avxvnni",
    start::<G>,
    dot::vnni::dot
);

/// All sixteen rows in one vector, all eight tokens at once.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn avx512(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    p.check(x);
    if p.group == 16 {
        avx512_groups::<16>(p, x, out);
    } else {
        avx512_groups::<32>(p, x, out);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
fn avx512_groups<const G: usize>(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    let mut weights = p.q.as_ptr();
    let mut columns = x.q.as_ptr().cast::<i32>();
    for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
        let mut sums: [__m512i; TOKENS] =
            std::array::from_fn(|t| _mm512_set1_epi32(start::<G>(x, g, t)));
        let (w, values) = (keep_in_register(weights), keep_in_register(columns));
        for k in 0..G / 4 {
            // SAFETY: `Panel::check`: there are `group / 4` vectors of 16 rows per group, and 8 values of each token for
            // every two vectors.
            unsafe {
                let w = _mm512_loadu_si512(w.add(k).cast());
                for (t, sum) in sums.iter_mut().enumerate() {
                    let at = k / 2 * 2 * TOKENS + 2 * t + k % 2;
                    let v = _mm512_set1_epi32(values.add(at).read_unaligned());
                    *sum = _mm512_dpbusd_epi32(*sum, w, v);
                }
            }
        }
        weights = w.wrapping_add(G / 4);
        columns = values.wrapping_add(G / 4 * TOKENS);
        // SAFETY: both are arrays of 16 floats.
        let (d, m) = unsafe { (_mm512_loadu_ps(d.as_ptr()), _mm512_loadu_ps(m.as_ptr())) };
        for t in 0..TOKENS {
            let block = g * G / BLOCK;
            let scales = _mm512_mul_ps(d, _mm512_set1_ps(x.d[block][t]));
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales, acc[t]);
            if p.has_min {
                let s = _mm512_set1_ps(x.scaled_sum(block, t));
                acc[t] = _mm512_fmadd_ps(m, s, acc[t]);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
}

/// Interleaves sixteen unpacked rows (see `Interleave`): 8 × 8 transpositions of 4-byte units.
#[target_feature(enable = "avx2")]
pub(super) fn interleave(rows: &[i8], bias: i8, out: &mut [Unit]) {
    let cols = out.len() * 4;
    assert!(rows.len() == ROWS * cols, "interleave sizes");
    let bias = _mm256_set1_epi8(bias);
    let (vectors, rest) = out.as_chunks_mut::<8>();
    for (i, out) in vectors.iter_mut().enumerate() {
        for half in 0..2 {
            // SAFETY: row `8 half + r` has 32 integers at `32 i`, as there are 16 rows of `cols`.
            let row = |r: usize| unsafe {
                let row =
                    _mm256_loadu_si256(rows.as_ptr().add((8 * half + r) * cols + 32 * i).cast());
                _mm256_add_epi8(row, bias)
            };
            // pairs of rows: units 0, 1 and 4, 5 (low), units 2, 3 and 6, 7 (high)
            let pair = |r: usize| {
                (
                    _mm256_unpacklo_epi32(row(r), row(r + 1)),
                    _mm256_unpackhi_epi32(row(r), row(r + 1)),
                )
            };
            let (a, b, c, d) = (pair(0), pair(2), pair(4), pair(6));
            // four rows: unit k of the low lane, unit k + 4 of the high one
            let four = |a: (__m256i, __m256i), b: (__m256i, __m256i)| {
                [
                    _mm256_unpacklo_epi64(a.0, b.0),
                    _mm256_unpackhi_epi64(a.0, b.0),
                    _mm256_unpacklo_epi64(a.1, b.1),
                    _mm256_unpackhi_epi64(a.1, b.1),
                ]
            };
            let (upper, lower) = (four(a, b), four(c, d));
            for k in 0..4 {
                // SAFETY: `out[k]` is 64 bytes, of which this half's 32.
                unsafe {
                    let to = |k: usize, out: &mut [Unit; 8]| {
                        out[k].as_mut_ptr().cast::<__m256i>().add(half)
                    };
                    _mm256_storeu_si256(
                        to(k, out),
                        _mm256_permute2x128_si256::<0x20>(upper[k], lower[k]),
                    );
                    _mm256_storeu_si256(
                        to(k + 4, out),
                        _mm256_permute2x128_si256::<0x31>(upper[k], lower[k]),
                    );
                }
            }
        }
    }
    assert!(rest.is_empty(), "formats have blocks of at least 32");
}
