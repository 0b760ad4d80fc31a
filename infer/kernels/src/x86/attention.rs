//! The attention step of `running_softmax.rs` in vectors: the same order of operations, with loads whose bounds were checked
//! once. A query's number is broadcast to all lanes of sixteen positions (scores) or sixteen channels (sums).

use crate::running_softmax::{STEP, State, Step, TILE, TILES, softmax};
use std::arch::x86_64::*;

macro_rules! attend {
    ($name:ident, $features:literal, $vectors:literal, [$(($queries:literal, $wide:literal)),*], $vector:ty, $zero:ident, $load:ident, $store:ident, $set:ident, $fma:ident) => {
        pub(super) mod $name {
            use super::*;

            /// Vectors in a tile.
            const VECTORS: usize = $vectors;
            /// Numbers in a vector.
            const LANES: usize = TILE / VECTORS;

            /// As many queries at a time as fit the registers; fewer take several tiles, or
            /// several vectors of channels, at a time, so that there are always enough sums to add to.
            #[target_feature(enable = $features)]
            pub fn attend(step: &Step, state: &mut State) {
                state.check(step);
                let n = step.seen.len();
                // SAFETY: the sizes were checked, and queries `first .. first + Q` are less than `n`.
                unsafe {
                    let mut first = 0;
                    while first < n {
                        first += match n - first {
                            $($queries.. => scores::<$queries, $wide>(step, state, first),)*
                            0 => break,
                        };
                    }
                    (0..n).for_each(|i| softmax(step.seen[i], state, i));
                    let mut first = 0;
                    while first < n {
                        first += match n - first {
                            $($queries.. => add_values::<$queries, $wide>(step, state, first),)*
                            0 => break,
                        };
                    }
                }
            }

            /// Scores of queries `first .. first + Q` with all positions that any of them sees, `T` tiles at a time;
            /// gives `Q`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn scores<const Q: usize, const T: usize>(
                step: &Step,
                state: &mut State,
                first: usize,
            ) -> usize {
                let hd = step.head_dim;
                let seen = step.seen_by_any(first..first + Q);
                for tile in (0..seen.div_ceil(TILE).min(TILES)).step_by(T) {
                    let mut acc = [[[$zero(); VECTORS]; T]; Q];
                    // SAFETY: `check`: `hd` numbers for each query, and `hd` times 16 for each tile of keys, of which
                    // there are a multiple of `T`.
                    unsafe {
                        let queries = step.queries.as_ptr().add(first * hd);
                        let keys = step.keys.as_ptr().add(tile * TILE * hd);
                        for d in 0..hd {
                            let key: [[$vector; VECTORS]; T] = std::array::from_fn(|t| {
                                let at = (t * hd + d) * TILE;
                                std::array::from_fn(|v| $load(keys.add(at + v * LANES)))
                            });
                            for q in 0..Q {
                                let query = $set(*queries.add(q * hd + d));
                                for t in 0..T {
                                    for v in 0..VECTORS {
                                        acc[q][t][v] = $fma(query, key[t][v], acc[q][t][v]);
                                    }
                                }
                            }
                        }
                        for (q, acc) in acc.iter().enumerate() {
                            let to = state.scores[first + q].as_mut_ptr().add(tile * TILE);
                            for (v, acc) in acc.as_flattened().iter().enumerate() {
                                $store(to.add(v * LANES), *acc);
                            }
                        }
                    }
                }
                Q
            }

            /// Adds the values of all positions, weighted, to queries `first .. first + Q`, `C` times sixteen channels
            /// at a time and the last ones singly; gives `Q`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add_values<const Q: usize, const C: usize>(
                step: &Step,
                state: &mut State,
                first: usize,
            ) -> usize {
                let wide = state.width - state.width % (C * TILE);
                for column in (0..wide).step_by(C * TILE) {
                    // SAFETY: the caller's promise, and the columns lie below the width.
                    unsafe { columns::<Q, C>(step, state, first, column) };
                }
                for column in (wide..state.width).step_by(TILE) {
                    // SAFETY: as above.
                    unsafe { columns::<Q, 1>(step, state, first, column) };
                }
                Q
            }

            /// The same for `C` times sixteen channels from `column` on.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn columns<const Q: usize, const C: usize>(
                step: &Step,
                state: &mut State,
                first: usize,
                column: usize,
            ) {
                let width = state.width;
                let seen = step.seen_by_any(first..first + Q);
                // SAFETY: `check`: `width` numbers for each query and each of the 64 positions, 64 weights.
                unsafe {
                    let sums = state.values.as_mut_ptr().add(first * width + column);
                    let weights = state.scores.as_ptr().add(first).cast::<f32>();
                    let mut acc: [[[$vector; VECTORS]; C]; Q] = std::array::from_fn(|q| {
                        std::array::from_fn(|c| {
                            let at = q * width + c * TILE;
                            std::array::from_fn(|v| $load(sums.add(at + v * LANES)))
                        })
                    });
                    for position in 0..seen.min(STEP) {
                        let values = step.values.as_ptr().add(position * width + column);
                        let values: [[$vector; VECTORS]; C] = std::array::from_fn(|c| {
                            std::array::from_fn(|v| $load(values.add(c * TILE + v * LANES)))
                        });
                        for q in 0..Q {
                            let weight = $set(*weights.add(q * STEP + position));
                            for c in 0..C {
                                for v in 0..VECTORS {
                                    acc[q][c][v] = $fma(weight, values[c][v], acc[q][c][v]);
                                }
                            }
                        }
                    }
                    for (q, acc) in acc.iter().enumerate() {
                        for (v, acc) in acc.as_flattened().iter().enumerate() {
                            $store(sums.add(q * width + v * LANES), *acc);
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
    [(5, 1), (4, 1), (3, 1), (2, 2), (1, 4)],
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
    [
        (16, 1),
        (8, 2),
        (6, 2),
        (5, 4),
        (4, 4),
        (3, 4),
        (2, 4),
        (1, 4)
    ],
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
