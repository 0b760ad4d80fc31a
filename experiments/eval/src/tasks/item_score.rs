//! The score of one item: its predicted choices, and its contribution to each metric.

use super::generation::Completion;
use super::item::Target;
use super::metrics::{ItemScore, Metric};
use super::scorer::Likelihood;

/// The positions of the likeliest choices of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predictions {
    /// By log-likelihood.
    pub plain: usize,
    /// By log-likelihood a character.
    pub by_characters: usize,
    /// By log-likelihood a byte.
    pub by_bytes: usize,
}

/// The predictions of an item that has choices.
pub(super) fn predictions(target: &Target, likelihoods: &[Likelihood]) -> Option<Predictions> {
    let Target::Choice { lengths, .. } = target else {
        return None;
    };
    let by = |length: &dyn Fn(usize) -> usize| {
        let each = likelihoods.iter().enumerate();
        largest(each.map(|(i, f)| f.log_likelihood / length(i) as f64))
    };
    Some(Predictions {
        plain: by(&|_| 1),
        by_characters: by(&|i| lengths[i][0]),
        by_bytes: by(&|i| lengths[i][1]),
    })
}

/// An item's contribution to `metric`.
pub(super) fn item_score(
    metric: Metric,
    target: &Target,
    likelihoods: &[Likelihood],
    completion: Option<&Completion>,
) -> ItemScore {
    let score = |value: f64, weight: f64| ItemScore { value, weight };
    let share = |is_right: bool| score(f64::from(u8::from(is_right)), 1.0);
    let sum: f64 = likelihoods.iter().map(|f| f.log_likelihood).sum();
    match target {
        Target::Choice { right, .. } => {
            let chosen = predictions(target, likelihoods).map(|p| match metric {
                Metric::AccNorm => p.by_characters,
                Metric::AccBytes => p.by_bytes,
                _ => p.plain,
            });
            share(chosen.is_some_and(|choice| right.contains(&choice)))
        }
        Target::Labels(truths) => {
            // Divided by the largest, so that long answers do not all underflow to 0.
            let most = likelihoods.iter().map(|f| f.log_likelihood);
            let most = most.fold(f64::NEG_INFINITY, f64::max);
            let mass = |f: &Likelihood| (f.log_likelihood - most).exp();
            let all: f64 = likelihoods.iter().map(mass).sum();
            let truths = likelihoods
                .iter()
                .zip(truths)
                .filter(|(_, is_true)| **is_true);
            score(truths.map(|(f, _)| mass(f)).sum::<f64>() / all, 1.0)
        }
        Target::Greedy => match metric {
            Metric::Perplexity => score(sum, 1.0),
            _ => share(likelihoods.iter().all(|f| f.greedy)),
        },
        Target::Texts(_) => match metric {
            Metric::FlexibleMatch => share(completion.is_some_and(|c| c.flexible)),
            Metric::F1 => score(completion.map_or(0.0, |c| c.f1), 1.0),
            _ => share(completion.is_some_and(|c| c.exact)),
        },
        Target::Rolling { words, bytes } => match metric {
            Metric::WordPerplexity => score(sum, *words as f64),
            _ => score(sum, *bytes as f64),
        },
    }
}

/// The position of the first of the largest values.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let best = values
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |best| best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[f64]) -> Vec<Likelihood> {
        let likelihood = |&log_likelihood| Likelihood {
            log_likelihood,
            greedy: false,
        };
        values.iter().map(likelihood).collect()
    }

    #[test]
    fn acc_norm_divides_by_characters_and_acc_bytes_by_bytes() {
        let target = Target::Choice {
            right: vec![1],
            lengths: vec![[2, 6], [4, 4], [3, 9]],
        };
        let found = found(&[-3.0, -4.0, -3.6]);
        // By itself the first; a character 1.5, 1, 1.2; a byte 0.5, 1, 0.4.
        let expected = Predictions {
            plain: 0,
            by_characters: 1,
            by_bytes: 2,
        };
        assert_eq!(predictions(&target, &found), Some(expected));
        let parts = [Metric::Acc, Metric::AccNorm, Metric::AccBytes]
            .map(|m| item_score(m, &target, &found, None).value);
        assert_eq!(parts, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn of_equal_likelihoods_the_first_is_chosen() {
        assert_eq!(largest([-1.0, -0.5, -0.5].into_iter()), 1);
    }

    #[test]
    fn acc_of_labels_is_the_true_choices_share_of_the_probability() {
        let target = Target::Labels(vec![true, false, true]);
        let logs = [0.2f64, 0.5, 0.1].map(|p| p.ln() - 2000.0);
        let share = item_score(Metric::Acc, &target, &found(&logs), None).value;
        assert!((share - 0.3 / 0.8).abs() < 1e-9, "{share}");
    }

    #[test]
    fn perplexity_scores_weigh_by_words_and_bytes() {
        let target = Target::Rolling {
            words: 3,
            bytes: 11,
        };
        let found = found(&[-2.0, -3.0]);
        for (metric, target, found, expected) in [
            (Metric::WordPerplexity, &target, &found[..], (-5.0, 3.0)),
            (Metric::BitsPerByte, &target, &found, (-5.0, 11.0)),
            (Metric::Acc, &Target::Greedy, &found, (0.0, 1.0)),
            (
                Metric::Perplexity,
                &Target::Greedy,
                &found[..1],
                (-2.0, 1.0),
            ),
        ] {
            let score = item_score(metric, target, found, None);
            assert_eq!((score.value, score.weight), expected, "{metric:?}");
        }
    }
}
