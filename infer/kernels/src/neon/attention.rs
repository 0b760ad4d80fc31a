//! The attention step of `running_softmax.rs` in NEON: the same order of operations, with loads that the bounds of every
//! slice have been checked for once. Four queries or one at a time; a query's values are multiplied by lane, four
//! channels (for scores) or positions (for sums) to a load.

use crate::running_softmax::{STEP, State, Step, TILE, softmax};
use std::arch::aarch64::*;

/// Vectors of a tile.
const VECTORS: usize = TILE / 4;

#[target_feature(enable = "neon")]
pub(super) fn attend(step: &Step, state: &mut State) {
    state.check(step);
    let n = step.seen.len();
    let four = n - n % 4;
    // SAFETY: the sizes were checked, and queries `first .. first + Q` are less than `n`.
    unsafe {
        (0..four)
            .step_by(4)
            .for_each(|i| scores::<4>(step, state, i));
        (four..n).for_each(|i| scores::<1>(step, state, i));
        for i in 0..n {
            softmax(step.seen[i], state, i);
        }
        (0..four)
            .step_by(4)
            .for_each(|i| add_values::<4>(step, state, i));
        (four..n).for_each(|i| add_values::<1>(step, state, i));
    }
}

/// Four multiply-adds, by each lane of `$by[q]` in turn, of the vectors that `$load(lane)` gives.
macro_rules! by_lane {
    ($acc:ident, $by:ident, $load:expr) => {
        by_lane!(@ $acc, $by, $load, 0);
        by_lane!(@ $acc, $by, $load, 1);
        by_lane!(@ $acc, $by, $load, 2);
        by_lane!(@ $acc, $by, $load, 3);
    };
    (@ $acc:ident, $by:ident, $load:expr, $lane:literal) => {
        let from: *const f32 = $load($lane);
        let vectors: [float32x4_t; VECTORS] = std::array::from_fn(|i| vld1q_f32(from.add(4 * i)));
        for (acc, by) in $acc.iter_mut().zip($by) {
            for (acc, vector) in acc.iter_mut().zip(vectors) {
                *acc = vfmaq_laneq_f32::<$lane>(*acc, vector, by);
            }
        }
    };
}

/// Scores of queries `first .. first + Q` with all positions that any of them sees.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn scores<const Q: usize>(step: &Step, state: &mut State, first: usize) {
    let hd = step.head_dim;
    let seen = step.seen_by_any(first..first + Q);
    let whole = hd - hd % 4;
    for tile in 0..seen.min(STEP).div_ceil(TILE) {
        // SAFETY: a tile has `hd` channels of 16 positions, a query `hd` values (checked by the caller).
        unsafe {
            let keys = step.keys.as_ptr().add(tile * hd * TILE);
            let query = |q: usize, d: usize| step.queries.as_ptr().add((first + q) * hd + d);
            let mut acc = [[vdupq_n_f32(0.0); VECTORS]; Q];
            for d in (0..whole).step_by(4) {
                let by: [float32x4_t; Q] = std::array::from_fn(|q| vld1q_f32(query(q, d)));
                by_lane!(acc, by, |lane| keys.add((d + lane) * TILE));
            }
            for d in whole..hd {
                for (q, acc) in acc.iter_mut().enumerate() {
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let key = vld1q_f32(keys.add(d * TILE + 4 * i));
                        *acc = vfmaq_n_f32(*acc, key, *query(q, d));
                    }
                }
            }
            for (scores, acc) in state.scores[first..].iter_mut().zip(acc) {
                let to = scores.as_mut_ptr().add(tile * TILE);
                acc.into_iter()
                    .enumerate()
                    .for_each(|(i, acc)| vst1q_f32(to.add(4 * i), acc));
            }
        }
    }
}

/// Adds the values of all positions that any of queries `first .. first + Q` sees, weighted.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_values<const Q: usize>(step: &Step, state: &mut State, first: usize) {
    let width = state.width;
    let end = step.seen_by_any(first..first + Q).min(STEP);
    let whole = end - end % 4;
    for column in (0..width).step_by(TILE) {
        // SAFETY: 64 positions of `width` values, 64 scores and `width` sums of each query (checked by the caller).
        unsafe {
            let values = step.values.as_ptr().add(column);
            let weights: [*const f32; Q] =
                std::array::from_fn(|q| state.scores[first + q].as_ptr());
            let sums: [*mut f32; Q] = std::array::from_fn(|q| {
                state.values.as_mut_ptr().add((first + q) * width + column)
            });
            let mut acc: [[float32x4_t; VECTORS]; Q] =
                sums.map(|sum| std::array::from_fn(|i| vld1q_f32(sum.add(4 * i))));
            for position in (0..whole).step_by(4) {
                let by: [float32x4_t; Q] = weights.map(|weights| vld1q_f32(weights.add(position)));
                by_lane!(acc, by, |lane| values.add((position + lane) * width));
            }
            for position in whole..end {
                for (weights, acc) in weights.iter().zip(&mut acc) {
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let value = vld1q_f32(values.add(position * width + 4 * i));
                        *acc = vfmaq_n_f32(*acc, value, *weights.add(position));
                    }
                }
            }
            for (sum, acc) in sums.into_iter().zip(acc) {
                acc.into_iter()
                    .enumerate()
                    .for_each(|(i, acc)| vst1q_f32(sum.add(4 * i), acc));
            }
        }
    }
}
