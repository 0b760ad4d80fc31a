//! Metrics over many items with their standard errors, as lm-evaluation-harness defines them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Bootstrap samples for a standard error without a formula. The harness takes 100,000; 10,000 give
/// the error to about a hundredth of itself.
const BOOTSTRAPS: usize = 10_000;

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// How often the likeliest answer is right.
    Acc,
    /// The same with log-likelihoods divided by the answers' lengths in characters.
    AccNorm,
    /// The same with their lengths in bytes.
    AccBytes,
    /// How often the completion's answer equals a target.
    ExactMatch,
    /// How often the last answer in the completion equals a target.
    FlexibleMatch,
    /// F1 of the words of answer and target, without capitals, punctuation and articles
    /// (Rajpurkar et al., arXiv 1606.05250).
    F1,
    /// exp of the mean negative log-likelihood of an item's answer.
    Perplexity,
    /// exp of the negative log-likelihood of all text divided by its words.
    WordPerplexity,
    /// The same, divided by its bytes.
    BytePerplexity,
    /// Its logarithm to the base 2.
    BitsPerByte,
}

/// A metric's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The metric.
    pub metric: Metric,
    /// The value.
    pub value: f64,
    /// The standard error, where there is one.
    pub stderr: Option<f64>,
}

/// An item's contribution to a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ItemScore {
    /// Accuracy, or log-likelihood in nats.
    pub(super) value: f64,
    /// Words or bytes for metrics a word or byte, else 1.
    pub(super) weight: f64,
}

impl Metric {
    /// Its name in lm-evaluation-harness.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::ExactMatch => "exact_match",
            Self::FlexibleMatch => "flexible_match",
            Self::F1 => "f1",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
        }
    }

    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        use Metric::{Acc, AccBytes, AccNorm, ExactMatch, F1, FlexibleMatch};
        matches!(
            self,
            Acc | AccNorm | AccBytes | ExactMatch | FlexibleMatch | F1
        )
    }

    /// The metric over `items`, at least one.
    pub(super) fn figure(self, items: &[ItemScore]) -> Figure {
        let values: Vec<f64> = items.iter().map(|item| item.value).collect();
        let weight: f64 = items.iter().map(|item| item.weight).sum();
        let each = -values.iter().sum::<f64>() / weight;
        let (value, stderr) = match self {
            _ if self.higher_is_better() => (mean(&values), mean_stderr(&values)),
            Self::Perplexity => ((-mean(&values)).exp(), bootstrap(&values)),
            Self::WordPerplexity | Self::BytePerplexity => (each.exp(), None),
            _ => (each / std::f64::consts::LN_2, None),
        };
        Figure {
            metric: self,
            value,
            stderr,
        }
    }
}

/// The pooled standard error of groups, each given by its number of items and standard error.
pub(super) fn pooled_stderr(groups: &[(usize, f64)]) -> Option<f64> {
    let n: f64 = groups.iter().map(|g| g.0 as f64).sum();
    let squares = |&(n, stderr): &(usize, f64)| (n as f64 - 1.0) * stderr.powi(2) * n as f64;
    let variance = groups.iter().map(squares).sum::<f64>() / (n - groups.len() as f64);
    Some((variance / n).sqrt()).filter(|stderr| stderr.is_finite())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation; none of a single value.
fn deviation(values: &[f64]) -> Option<f64> {
    let (n, mean) = (values.len() as f64, mean(values));
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())
}

fn mean_stderr(values: &[f64]) -> Option<f64> {
    Some(deviation(values)? / (values.len() as f64).sqrt())
}

/// The standard deviation of the perplexity over samples drawn from `values` with replacement.
fn bootstrap(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut sample = || {
        let drawn = (0..values.len()).map(|_| values[rng.random_range(0..values.len())]);
        (-drawn.sum::<f64>() / values.len() as f64).exp()
    };
    let samples: Vec<f64> = (0..BOOTSTRAPS).map(|_| sample()).collect();
    deviation(&samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: f64, weight: f64) -> ItemScore {
        ItemScore { value, weight }
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn accuracy_and_its_stderr_equal_values_by_hand() {
        let figure = Metric::Acc.figure(&[1.0, 0.0, 1.0, 1.0].map(|value| item(value, 1.0)));
        near(figure.value, 0.75);
        // Squares: 3 · 0.0625 + 0.5625 = 0.75; 0.75 / 3 = 0.25; its root 0.5; by √4.
        near(figure.stderr.unwrap(), 0.25);
        assert_eq!(Metric::Acc.figure(&[item(1.0, 1.0)]).stderr, None);
    }

    #[test]
    fn perplexities_and_bootstrap_equal_values_by_hand() {
        let items = [item(-2.0, 4.0), item(-4.0, 2.0)];
        near(Metric::WordPerplexity.figure(&items).value, 1f64.exp());
        near(Metric::BitsPerByte.figure(&items).value, 1.0 / 2f64.ln());
        assert_eq!(Metric::BytePerplexity.figure(&items).stderr, None);
        let figure = Metric::Perplexity.figure(&items);
        near(figure.value, 3f64.exp());
        // Samples of two: exp 2, 4 with a quarter each, exp 3 with a half.
        let (a, b, c) = (2f64.exp(), 3f64.exp(), 4f64.exp());
        let mean = (a + 2.0 * b + c) / 4.0;
        let exact =
            ((a - mean).powi(2) / 4.0 + (b - mean).powi(2) / 2.0 + (c - mean).powi(2) / 4.0).sqrt();
        let found = figure.stderr.unwrap();
        assert!((found / exact - 1.0).abs() < 0.03, "{found} {exact}");
    }

    #[test]
    fn pooled_stderr_weighs_groups_by_items() {
        // Twice two items, 0 and 1 in each: standard error 0.5 each.
        // (1 · 0.25 · 2 + 1 · 0.25 · 2) / (4 − 2) = 0.5; / 4 = 0.125.
        near(
            pooled_stderr(&[(2, 0.5), (2, 0.5)]).unwrap(),
            0.125f64.sqrt(),
        );
        assert_eq!(pooled_stderr(&[(1, 0.0)]), None);
    }
}
