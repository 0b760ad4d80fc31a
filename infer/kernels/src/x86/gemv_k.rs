//! One token times rows of the K formats as they lie in a file (layouts in `quant/k.rs`), one row after another.
//!
//! A block of 256 weights meets eight blocks of activations. The products of 32 weights are four neighbours to an i32
//! lane; what they are multiplied with comes from the block's scale, its groups' integer scales and the activations'
//! scales, eight at a time. Minima meet the activations' sums likewise. Q6_K's groups of 16 are the halves of a vector;
//! its weights are signed, so magnitudes are multiplied with values that carry the sign.

use super::{ask_ahead, sum};
use crate::activations::{Row, Scale};
use retort_format::quant::k::scales_mins;
use std::arch::x86_64::*;

const Q4_K: usize = 0;
const Q5_K: usize = 1;
const Q6_K: usize = 2;

const fn bytes(format: usize) -> usize {
    [144, 176, 210][format]
}

/// Bits moved up by `n` places, or down; bytes mix, so the caller masks what is its own.
#[inline]
#[target_feature(enable = "avx2")]
fn moved(v: __m256i, n: i32) -> __m256i {
    if n >= 0 {
        _mm256_sll_epi32(v, _mm_cvtsi32_si128(n))
    } else {
        _mm256_srl_epi32(v, _mm_cvtsi32_si128(-n))
    }
}

/// Weights `32 g .. 32 g + 32` of a block, without scale and minimum.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weights<const F: usize>(p: *const u8, g: usize) -> __m256i {
    // SAFETY: the caller has a whole block of `bytes(F)` bytes at `p`, and all places below lie in it.
    let load = |at: usize| unsafe { _mm256_loadu_si256(p.add(at).cast()) };
    let nibbles = |at: usize, upper: bool| {
        let bytes = moved(load(at), if upper { -4 } else { 0 });
        _mm256_and_si256(bytes, _mm256_set1_epi8(15))
    };
    match F {
        Q4_K => nibbles(16 + g / 2 * 32, g % 2 == 1),
        Q5_K => {
            let fifth = _mm256_and_si256(moved(load(16), 4 - g as i32), _mm256_set1_epi8(16));
            _mm256_or_si256(nibbles(48 + g / 2 * 32, g % 2 == 1), fifth)
        }
        _ => {
            let (half, part) = (g / 4, g % 4);
            let pair = moved(load(128 + 32 * half), 4 - 2 * part as i32);
            let pair = _mm256_and_si256(pair, _mm256_set1_epi8(48));
            let q = _mm256_or_si256(nibbles(64 * half + part % 2 * 32, part >= 2), pair);
            _mm256_sub_epi8(q, _mm256_set1_epi8(32))
        }
    }
}

/// Eight activation blocks' scales and their scaled sums.
#[inline]
#[target_feature(enable = "avx2")]
fn scales_sums(x: &[Scale; 8]) -> (__m256, __m256) {
    // SAFETY: sixteen floats.
    let (a, b) = unsafe {
        let x = x.as_ptr().cast::<f32>();
        (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)))
    };
    let order = |v| {
        let v = _mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v));
        _mm256_castpd_ps(v)
    };
    (
        order(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)),
        order(_mm256_shuffle_ps::<0b11_01_11_01>(a, b)),
    )
}

/// Eight integers as floats.
#[inline]
#[target_feature(enable = "avx2")]
fn floats(bytes: [u8; 8], signed: bool) -> __m256 {
    let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(bytes));
    _mm256_cvtepi32_ps(match signed {
        true => _mm256_cvtepi8_epi32(bytes),
        false => _mm256_cvtepu8_epi32(bytes),
    })
}

/// A number in half precision to all lanes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn half(p: *const u8) -> __m256 {
    // SAFETY: the caller has two bytes at `p`.
    let bits = unsafe { p.cast::<u16>().read_unaligned() };
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
}

/// What the integer sums of a block's eight groups (Q6_K: sixteen) are multiplied with. The minima's part is taken from
/// `mins`, a group to a lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn factors<const F: usize>(p: *const u8, x: &[Scale; 8], mins: &mut __m256) -> [f32; 16] {
    let mut out = [0.0; 16];
    let (scales, sums) = scales_sums(x);
    // SAFETY: the caller has a whole block at `p`; sixteen floats of room.
    unsafe {
        let to = out.as_mut_ptr();
        if F == Q6_K {
            let d = half(p.add(208));
            let groups = p.add(192).cast::<[u8; 8]>();
            for i in 0..2 {
                let first = 4 * i as i32;
                let twice = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
                let twice = _mm256_add_epi32(twice, _mm256_set1_epi32(first));
                let scales = _mm256_permutevar8x32_ps(scales, twice);
                let d = _mm256_mul_ps(d, floats(groups.add(i).read(), true));
                _mm256_storeu_ps(to.add(8 * i), _mm256_mul_ps(d, scales));
            }
        } else {
            let [groups, minima] = scales_mins(&*p.add(4).cast());
            let d = _mm256_mul_ps(half(p), floats(groups, false));
            _mm256_storeu_ps(to, _mm256_mul_ps(d, scales));
            let m = _mm256_mul_ps(half(p.add(2)), floats(minima, false));
            *mins = _mm256_fnmadd_ps(m, sums, *mins);
        }
    }
    out
}

/// The kernels for one way of multiplying bytes: `$dot(u8x32, i8x32) -> i32x8`, sums of four neighbours.
macro_rules! kernels {
    ($name:ident, $features:literal, $doc:literal, |$u:ident, $s:ident| $dot:expr) => {
        #[doc = $doc]
        pub(in super::super) mod $name {
            use super::*;

            /// 32 weights times 32 values, which are never -128.
            #[inline]
            #[target_feature(enable = $features)]
            fn dot<const F: usize>(w: __m256i, x: __m256i) -> __m256i {
                let ($u, $s) = match F {
                    Q6_K => (_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)),
                    _ => (w, x),
                };
                $dot
            }

            /// One row.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row<const F: usize>(mut w: *const u8, x: Row) -> f32 {
                let mut mins = _mm256_setzero_ps();
                let mut sums = [_mm256_setzero_ps(); 2];
                let mut q = x.q.as_ptr();
                for scales in x.scales.as_chunks::<8>().0 {
                    ask_ahead(w, bytes(F));
                    // SAFETY: the row has a block for every eight scales of `x`, which has 32 values for each.
                    unsafe {
                        let factors = factors::<F>(w, scales, &mut mins);
                        for g in 0..8 {
                            let values = _mm256_loadu_si256(q.add(32 * g).cast());
                            let ints = dot::<F>(weights::<F>(w, g), values);
                            let factor = match F {
                                Q6_K => _mm256_set_m128(
                                    _mm_set1_ps(factors[2 * g + 1]),
                                    _mm_set1_ps(factors[2 * g]),
                                ),
                                _ => _mm256_set1_ps(factors[g]),
                            };
                            let sum = &mut sums[g % 2];
                            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(ints), factor, *sum);
                        }
                        w = w.add(bytes(F));
                        q = q.add(256);
                    }
                }
                sum(_mm256_add_ps(sums[0], sums[1])) + sum(mins)
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn gemv<const F: usize>(w: &[u8], x: Row, y: &mut [f32]) {
                let (blocks, rest) = x.scales.as_chunks::<8>();
                let stride = blocks.len() * bytes(F);
                assert!(
                    rest.is_empty()
                        && x.q.len() == blocks.len() * 256
                        && w.len() == y.len() * stride,
                    "gemv sizes"
                );
                for (y, w) in y.iter_mut().zip(w.chunks_exact(stride)) {
                    // SAFETY: by the assertion a row has a block for every eight scales, and there are 32 values for
                    // each of those.
                    *y = unsafe { row::<F>(w.as_ptr(), x) };
                }
            }

            #[target_feature(enable = $features)]
            pub fn q4_k(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q4_K>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q5_k(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q5_K>(w, x, y);
            }

            #[target_feature(enable = $features)]
            pub fn q6_k(w: &[u8], x: Row, y: &mut [f32]) {
                gemv::<Q6_K>(w, x, y);
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", "AVX2 alone.", |u, s| {
    _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1))
});
kernels!(vnni, "avx2,fma,f16c,avxvnni", "AVX-VNNI.", |u, s| {
    _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, s)
});
kernels!(
    avx512,
    "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
    "AVX-512 VNNI on 256 bits.",
    |u, s| _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s)
);
