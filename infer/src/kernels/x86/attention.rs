//! The attention step of `attention.rs` in vectors: the same order of operations, with loads whose bounds were checked
//! once. A query's number is broadcast to all lanes of sixteen positions (scores) or sixteen channels (sums).

use crate::kernels::attention::{STEP, State, Step, TILE, TILES, softmax};
use std::arch::x86_64::*;

/// Checks what makes the kernels' loads sound.
fn check(step: &Step, state: &State) {
    let (n, hd, width) = (step.seen.len(), step.head_dim, state.width);
    assert!(
        step.queries.len() == n * hd
            && step.keys.len() == STEP * hd
            && step.values.len() == STEP * width
            && width.is_multiple_of(TILE)
            && state.scores.len() >= n
            && state.values.len() >= n * width,
        "attention sizes"
    );
}

macro_rules! attend {
    ($name:ident, $features:literal, $vectors:literal, $queries:literal, $vector:ty, $zero:ident, $load:ident, $store:ident, $set:ident, $fma:ident) => {
        pub(super) mod $name {
            use super::*;

            /// Vectors in a tile.
            const VECTORS: usize = $vectors;
            /// Numbers in a vector.
            const LANES: usize = TILE / VECTORS;

            /// See `attention::attend`.
            #[target_feature(enable = $features)]
            pub fn attend(step: &Step, state: &mut State) {
                check(step, state);
                let n = step.seen.len();
                // SAFETY: the sizes were checked, and queries `first .. first + Q` are less than `n`.
                unsafe {
                    each(n, |first, q| match q {
                        $queries => scores::<$queries>(step, state, first),
                        4 => scores::<4>(step, state, first),
                        2 => scores::<2>(step, state, first),
                        _ => scores::<1>(step, state, first),
                    });
                    (0..n).for_each(|i| softmax(step.seen[i], state, i));
                    each(n, |first, q| match q {
                        $queries => weigh::<$queries>(step, state, first),
                        4 => weigh::<4>(step, state, first),
                        2 => weigh::<2>(step, state, first),
                        _ => weigh::<1>(step, state, first),
                    });
                }
            }

            /// Calls `f` with stretches of as many of the `n` queries as fit the registers, then of 4, 2 and 1.
            #[inline]
            #[target_feature(enable = $features)]
            fn each(n: usize, mut f: impl FnMut(usize, usize)) {
                let mut first = 0;
                while first < n {
                    let q = match n - first {
                        $queries.. => $queries,
                        4.. => 4,
                        2.. => 2,
                        _ => 1,
                    };
                    f(first, q);
                    first += q;
                }
            }

            /// Scores of queries `first .. first + Q` with all positions that any of them sees.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn scores<const Q: usize>(step: &Step, state: &mut State, first: usize) {
                let hd = step.head_dim;
                let seen = step.seen[first..first + Q]
                    .iter()
                    .copied()
                    .max()
                    .unwrap_or(0);
                for tile in 0..seen.div_ceil(TILE).min(TILES) {
                    let mut acc = [[$zero(); VECTORS]; Q];
                    // SAFETY: `check`: `hd` numbers for each query, and `hd` times 16 for each tile of keys.
                    unsafe {
                        let queries = step.queries.as_ptr().add(first * hd);
                        let keys = step.keys.as_ptr().add(tile * TILE * hd);
                        for d in 0..hd {
                            let key: [$vector; VECTORS] =
                                std::array::from_fn(|v| $load(keys.add(d * TILE + v * LANES)));
                            for q in 0..Q {
                                let query = $set(*queries.add(q * hd + d));
                                for v in 0..VECTORS {
                                    acc[q][v] = $fma(query, key[v], acc[q][v]);
                                }
                            }
                        }
                        for (q, acc) in acc.into_iter().enumerate() {
                            let to = state.scores[first + q].as_mut_ptr().add(tile * TILE);
                            for (v, acc) in acc.into_iter().enumerate() {
                                $store(to.add(v * LANES), acc);
                            }
                        }
                    }
                }
            }

            /// Adds the values of all positions, weighted, to queries `first .. first + Q`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn weigh<const Q: usize>(step: &Step, state: &mut State, first: usize) {
                let width = state.width;
                // positions that none of these queries sees have weight zero, and may hold anything
                let seen = step.seen[first..first + Q]
                    .iter()
                    .copied()
                    .max()
                    .unwrap_or(0);
                // SAFETY: `check`: `width` numbers for each query and each of the 64 positions, 64 weights.
                unsafe {
                    let sums = state.values.as_mut_ptr().add(first * width);
                    let weights = state.scores.as_ptr().add(first).cast::<f32>();
                    for column in (0..width).step_by(TILE) {
                        let mut acc: [[$vector; VECTORS]; Q] = std::array::from_fn(|q| {
                            std::array::from_fn(|v| $load(sums.add(q * width + column + v * LANES)))
                        });
                        for position in 0..seen.min(STEP) {
                            let values = step.values.as_ptr().add(position * width + column);
                            let values: [$vector; VECTORS] =
                                std::array::from_fn(|v| $load(values.add(v * LANES)));
                            for q in 0..Q {
                                let weight = $set(*weights.add(q * STEP + position));
                                for v in 0..VECTORS {
                                    acc[q][v] = $fma(weight, values[v], acc[q][v]);
                                }
                            }
                        }
                        for (q, acc) in acc.into_iter().enumerate() {
                            for (v, acc) in acc.into_iter().enumerate() {
                                $store(sums.add(q * width + column + v * LANES), acc);
                            }
                        }
                    }
                }
            }
        }
    };
}

attend!(
    avx2,
    "avx2,fma",
    2,
    5,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);
attend!(
    avx512,
    "avx2,fma,avx512f,avx512vl",
    1,
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
