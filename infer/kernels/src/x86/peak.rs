//! The multiply-adds alone, on registers: the most that products of int8 can reach.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums that do not wait for one another: enough to cover the instruction's latency.
const SUMS: usize = 12;

macro_rules! peak {
    ($name:ident, $features:literal, $vector:ty, $macs:literal, $set:ident, |$sum:ident, $w:ident, $x:ident| $dot:expr) => {
        /// Multiplies `rounds` times twelve vectors; gives the multiply-adds of that.
        #[target_feature(enable = $features)]
        pub(in super::super) fn $name(rounds: usize) -> usize {
            let ($w, $x) = (black_box($set(3)), black_box($set(5)));
            let mut sums: [$vector; SUMS] = [$set(0); SUMS];
            for _ in 0..rounds {
                for $sum in &mut sums {
                    let $sum: &mut $vector = $sum;
                    *$sum = $dot;
                }
            }
            black_box(sums);
            rounds * SUMS * $macs
        }
    };
}

peak!(avx2, "avx2", __m256i, 32, _mm256_set1_epi8, |sum, w, x| {
    // opaque, so that the product, which is the same each time, is computed each time
    _mm256_add_epi16(*sum, _mm256_maddubs_epi16(black_box(w), x))
});
peak!(
    vnni,
    "avx2,avxvnni",
    __m256i,
    32,
    _mm256_set1_epi8,
    |sum, w, x| _mm256_dpbusd_avx_epi32(*sum, w, x)
);
peak!(
    avx512,
    "avx512f,avx512vnni",
    __m512i,
    64,
    _mm512_set1_epi8,
    |sum, w, x| _mm512_dpbusd_epi32(*sum, w, x)
);
