//! Which matrices get more bits than the recipe's type, under a budget for the whole file.
//!
//! In: the error of every matrix in every type that is larger than its own; out: types. The error of a matrix is the
//! squared error of its weights over their mean square, which is the share of its output's variance that is lost, times
//! its size, for inputs alike in all directions. Greedy: the step that takes away most error a byte is
//! taken first, as long as it fits; of equal ones, the first in the file.

use retort_format::GgmlType;

/// A matrix and what it may become.
pub(super) struct Choice {
    /// Bytes and error in the type that it has, then in each larger one.
    pub(super) options: Vec<(GgmlType, u64, f64)>,
    /// Which of them it has.
    pub(super) chosen: usize,
}

/// Chooses options so that the bytes of all come to at most `budget`; the bytes that they come to. What is chosen at the
/// beginning is the least.
pub(super) fn spend(choices: &mut [Choice], budget: u64) -> u64 {
    let bytes = |choice: &Choice| choice.options[choice.chosen].1;
    let mut spent: u64 = choices.iter().map(bytes).sum();
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, choice) in choices.iter().enumerate() {
            let (_, bytes, error) = choice.options[choice.chosen];
            for (option, &(_, more, less)) in choice.options.iter().enumerate() {
                let cost = more.saturating_sub(bytes);
                if cost == 0 || spent + cost > budget || less >= error {
                    continue;
                }
                let gain = (error - less) / cost as f64;
                if best.is_none_or(|(best, ..)| gain > best) {
                    best = Some((gain, i, option));
                }
            }
        }
        let Some((_, i, option)) = best else {
            return spent;
        };
        spent += choices[i].options[option].1 - bytes(&choices[i]);
        choices[i].chosen = option;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_budget_is_kept_and_nothing_that_helps_is_left(
            sizes in prop::collection::vec(1u64..100, 1..12),
            errors in prop::collection::vec(0f64..10.0, 12),
            budget in 0u64..20_000,
        ) {
            let mut choices: Vec<_> = sizes.iter().zip(errors).map(|(n, e)| Choice {
                options: vec![(GgmlType::Q4_0, 18 * n, e), (GgmlType::Q4_1, 20 * n, e / 2.0), (GgmlType::Q8_0, 34 * n, e / 200.0)],
                chosen: 0,
            }).collect();
            let least: u64 = sizes.iter().map(|n| 18 * n).sum();
            let spent = spend(&mut choices, budget);
            let sum: u64 = choices.iter().map(|c| c.options[c.chosen].1).sum();
            prop_assert_eq!(sum, spent);
            prop_assert!(spent <= budget.max(least));
            for choice in &choices {
                let (_, bytes, error) = choice.options[choice.chosen];
                for (_, more, less) in &choice.options {
                    prop_assert!(*less >= error || *more <= bytes || spent + more - bytes > budget);
                }
            }
        }
    }
}
