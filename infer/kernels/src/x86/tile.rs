//! A panel of sixteen unpacked rows times eight tokens (layouts in `panel.rs` and `tokens.rs`): each 4-byte lane is a
//! row's next four weights, the token's four values are broadcast to all lanes, so lanes add up to rows.
//!
//! The VNNI kernels need unsigned weights and get them 128 too large; their sums start at `-128 Σx`, which the
//! activations carry, so the integers come out exact. AVX2 alone multiplies magnitudes with values of moved signs.

use super::rows16_512::apart;
use crate::activation_tiles::{TOKENS, Tokens};
use crate::panel::Panel;
use retort_format::quant::rows16::ROWS;
use std::arch::x86_64::*;

/// Tokens that eight rows take at a time in the sixteen registers of AVX2.
const PART: usize = 4;

/// Checks that the tokens are as long as the panel, which is what makes the kernels' loads sound.
fn check(p: &Panel, x: &Tokens) {
    let groups = p.d.len();
    assert!(
        (p.group == 16 || p.group == 32)
            && groups * p.group == p.q.len() * 4
            && p.m.len() == groups
            && x.cols() == Some(p.q.len() * 4),
        "tile sizes"
    );
}

/// `-128 Σ` of token `t` over group `g`: half a block for groups of 16, else the whole.
#[inline(always)]
fn start<const G: usize>(x: &Tokens, g: usize, t: usize) -> i32 {
    if G == 16 {
        x.sums[g / 2][g % 2][t] * -128
    } else {
        x.sums[g][2][t] * 16
    }
}

/// Token `t`'s scale at group `g` and that times the sum of its integers, which minima are multiplied with.
#[inline(always)]
fn scales<const G: usize>(x: &Tokens, g: usize, t: usize) -> (f32, f32) {
    let block = g * G / 32;
    let d = x.d[block][t];
    (d, d * (x.sums[block][0][t] + x.sums[block][1][t]) as f32)
}

macro_rules! eight_rows {
    ($tile:ident, $part:ident, $features:literal, |$start:ident| $begin:expr, |$w:ident| $prepare:expr, |$sum:ident, $p:ident, $v:ident| $add:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $tile(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
            check(p, x);
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
            x: &Tokens,
            first: usize,
            half: usize,
            out: &mut [[f32; ROWS]; TOKENS],
        ) {
            let mut acc = [_mm256_setzero_ps(); PART];
            for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
                let mut sums: [__m256i; PART] = std::array::from_fn(|t| {
                    let $start = start::<G>(x, g, first + t);
                    $begin
                });
                for k in g * (G / 4)..(g + 1) * (G / 4) {
                    // SAFETY: `check`: there are `group / 4` vectors of 16 rows per group, and 8 values of each
                    // token for every two vectors.
                    unsafe {
                        let $w =
                            _mm256_loadu_si256(p.q.as_ptr().add(k).cast::<__m256i>().add(half));
                        let $p = $prepare;
                        let values = x.q.as_ptr().add(k / 2).cast::<i32>().add(k % 2 + 2 * first);
                        for t in 0..PART {
                            let $v = _mm256_set1_epi32(values.add(2 * t).read_unaligned());
                            let $sum = sums[t];
                            sums[t] = $add;
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
                    let (scale, s) = scales::<G>(x, g, first + t);
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
    |_start| _mm256_setzero_si256(),
    |w| (w, _mm256_abs_epi8(w)),
    |sum, p, v| {
        let pairs = _mm256_maddubs_epi16(p.1, _mm256_sign_epi8(v, p.0));
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
);

eight_rows!(
    vnni,
    vnni_part,
    "avx2,fma,avxvnni",
    |start| _mm256_set1_epi32(start),
    |w| w,
    |sum, p, v| _mm256_dpbusd_avx_epi32(sum, p, v)
);

/// All sixteen rows in one vector, all eight tokens at once.
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
pub(super) fn avx512(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    check(p, x);
    if p.group == 16 {
        avx512_groups::<16>(p, x, out);
    } else {
        avx512_groups::<32>(p, x, out);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
fn avx512_groups<const G: usize>(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]) {
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    let mut weights = p.q.as_ptr();
    let mut columns = x.q.as_ptr().cast::<i32>();
    for (g, (d, m)) in p.d.iter().zip(&p.m).enumerate() {
        let mut sums: [__m512i; TOKENS] =
            std::array::from_fn(|t| _mm512_set1_epi32(start::<G>(x, g, t)));
        let (w, values) = (apart(weights), apart(columns));
        for k in 0..G / 4 {
            // SAFETY: `check`: there are `group / 4` vectors of 16 rows per group, and 8 values of each token for
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
            let (scale, s) = scales::<G>(x, g, t);
            let scales = _mm512_mul_ps(d, _mm512_set1_ps(scale));
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales, acc[t]);
            if p.has_min {
                acc[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(s), acc[t]);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
}

/// Interleaves sixteen unpacked rows (see `scalar::interleave`): 8 × 8 transpositions of 4-byte units.
#[target_feature(enable = "avx2")]
pub(super) fn interleave(rows: &[i8], bias: i8, out: &mut [[[i8; 4]; ROWS]]) {
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
                    let to = |k: usize, out: &mut [[[i8; 4]; ROWS]; 8]| {
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
