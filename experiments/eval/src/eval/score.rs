//! What an item's likelihoods, or what was written, are worth: predictions and their parts of the figures.

use super::item::Gold;
use super::metrics::{Metric, Part};
use super::scorer::Likelihood;
use super::written::Written;

/// Which choice an item's likelihoods point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Predictions {
    /// The likeliest.
    pub(super) plain: usize,
    /// The likeliest a character.
    pub(super) by_characters: usize,
    /// The likeliest a byte.
    pub(super) by_bytes: usize,
}

/// Where an item has choices, which it points to.
pub(super) fn predictions(gold: &Gold, found: &[Likelihood]) -> Option<Predictions> {
    let Gold::Choice { lengths, .. } = gold else {
        return None;
    };
    let by = |length: &dyn Fn(usize) -> usize| {
        let each = found.iter().enumerate();
        largest(each.map(|(i, f)| f.log_likelihood / length(i) as f64))
    };
    Some(Predictions {
        plain: by(&|_| 1),
        by_characters: by(&|i| lengths[i][0]),
        by_bytes: by(&|i| lengths[i][1]),
    })
}

/// What an item adds to the figure of `metric`.
pub(super) fn part(
    metric: Metric,
    gold: &Gold,
    found: &[Likelihood],
    written: Option<&Written>,
) -> Part {
    let share = |is_right: bool| (f64::from(u8::from(is_right)), 1.0);
    let sum: f64 = found.iter().map(|f| f.log_likelihood).sum();
    match gold {
        Gold::Choice { right, .. } => {
            let chosen = predictions(gold, found).map(|p| match metric {
                Metric::AccNorm => p.by_characters,
                Metric::AccBytes => p.by_bytes,
                _ => p.plain,
            });
            share(chosen.is_some_and(|choice| right.contains(&choice)))
        }
        Gold::True(truths) => {
            // Divided by the largest, so that long answers do not all come to nothing.
            let most = found.iter().map(|f| f.log_likelihood);
            let most = most.fold(f64::NEG_INFINITY, f64::max);
            let mass = |f: &Likelihood| (f.log_likelihood - most).exp();
            let all: f64 = found.iter().map(mass).sum();
            let truths = found.iter().zip(truths).filter(|(_, is_true)| **is_true);
            (truths.map(|(f, _)| mass(f)).sum::<f64>() / all, 1.0)
        }
        Gold::Said => match metric {
            Metric::Perplexity => (sum, 1.0),
            _ => share(found.iter().all(|f| f.greedy)),
        },
        Gold::Written(_) => match metric {
            Metric::FlexibleMatch => share(written.is_some_and(|w| w.flexible)),
            Metric::F1 => (written.map_or(0.0, |w| w.f1), 1.0),
            _ => share(written.is_some_and(|w| w.exact)),
        },
        Gold::Text { words, bytes } => match metric {
            Metric::WordPerplexity => (sum, *words as f64),
            _ => (sum, *bytes as f64),
        },
    }
}

/// The position of the first of the largest values.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let best = values
        .enumerate()
        .reduce(|best, next| match next.1 > best.1 {
            true => next,
            false => best,
        });
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
    fn lengths_decide_what_is_likeliest_a_character_or_byte() {
        let gold = Gold::Choice {
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
        assert_eq!(predictions(&gold, &found), Some(expected));
        let parts =
            [Metric::Acc, Metric::AccNorm, Metric::AccBytes].map(|m| part(m, &gold, &found, None));
        assert_eq!(parts, [(0.0, 1.0), (1.0, 1.0), (0.0, 1.0)]);
    }

    #[test]
    fn of_equals_the_first_is_chosen() {
        assert_eq!(largest([-1.0, -0.5, -0.5].into_iter()), 1);
    }

    #[test]
    fn true_choices_share_of_the_probability() {
        let gold = Gold::True(vec![true, false, true]);
        let logs = [0.2f64, 0.5, 0.1].map(|p| p.ln() - 2000.0);
        let share = part(Metric::Acc, &gold, &found(&logs), None).0;
        assert!((share - 0.3 / 0.8).abs() < 1e-9, "{share}");
    }

    #[test]
    fn text_adds_its_words_and_bytes() {
        let gold = Gold::Text {
            words: 3,
            bytes: 11,
        };
        let found = found(&[-2.0, -3.0]);
        assert_eq!(
            part(Metric::WordPerplexity, &gold, &found, None),
            (-5.0, 3.0)
        );
        assert_eq!(part(Metric::BitsPerByte, &gold, &found, None), (-5.0, 11.0));
        assert_eq!(part(Metric::Acc, &Gold::Said, &found, None), (0.0, 1.0));
        assert_eq!(
            part(Metric::Perplexity, &Gold::Said, &found[..1], None),
            (-2.0, 1.0)
        );
    }
}
