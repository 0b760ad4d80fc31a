//! Figures of many items, with their standard errors, as lm-evaluation-harness defines them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Samples that a standard error is taken from where there is no formula; the harness takes
/// 100,000. With these it is known to about a hundredth of itself.
const BOOTSTRAPS: usize = 10_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// How often the likeliest answer is right.
    Acc,
    /// The same with log-likelihoods divided by the answers' lengths in characters.
    AccNorm,
    /// The same with their lengths in bytes.
    AccBytes,
    /// How often what was written holds the right answer where it should.
    ExactMatch,
    /// How often it holds it at the end.
    FlexibleMatch,
    /// How many words it shares with the right answer: the harmonic mean of the share of its own words and of the
    /// answer's, capitals, punctuation and articles left out (Rajpurkar et al., arXiv 1606.05250).
    F1,
    /// exp of the mean negative log-likelihood of an item's answer.
    Perplexity,
    /// exp of the negative log-likelihood of all text a word of it.
    WordPerplexity,
    /// The same a byte.
    BytePerplexity,
    /// Its logarithm to the base 2.
    BitsPerByte,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Of what.
    pub metric: Metric,
    /// Its value.
    pub value: f64,
    /// Its standard error, where there is one.
    pub stderr: Option<f64>,
}

/// What an item adds to a figure: a value, and the words or bytes it is for.
pub(super) type Part = (f64, f64);

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

    /// The figure of `parts`, at least one.
    pub(super) fn figure(self, parts: &[Part]) -> Figure {
        let values: Vec<f64> = parts.iter().map(|part| part.0).collect();
        let weight: f64 = parts.iter().map(|part| part.1).sum();
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

/// The standard error of all from those of groups: number of items and standard error each.
pub(super) fn pooled_stderr(groups: &[(usize, f64)]) -> Option<f64> {
    let n: f64 = groups.iter().map(|g| g.0 as f64).sum();
    let squares = |&(n, stderr): &(usize, f64)| (n as f64 - 1.0) * stderr.powi(2) * n as f64;
    let variance = groups.iter().map(squares).sum::<f64>() / (n - groups.len() as f64);
    Some((variance / n).sqrt()).filter(|stderr| stderr.is_finite())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample's standard deviation; of one value there is none.
fn deviation(values: &[f64]) -> Option<f64> {
    let (n, mean) = (values.len() as f64, mean(values));
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())
}

fn mean_stderr(values: &[f64]) -> Option<f64> {
    Some(deviation(values)? / (values.len() as f64).sqrt())
}

/// How much the perplexity varies among samples drawn from `values` with replacement.
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

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn accuracy_by_hand() {
        let figure = Metric::Acc.figure(&[(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 1.0)]);
        near(figure.value, 0.75);
        // Squares: 3 · 0.0625 + 0.5625 = 0.75; 0.75 / 3 = 0.25; its root 0.5; by √4.
        near(figure.stderr.unwrap(), 0.25);
        assert_eq!(Metric::Acc.figure(&[(1.0, 1.0)]).stderr, None);
    }

    #[test]
    fn perplexities_by_hand() {
        let parts = [(-2.0, 4.0), (-4.0, 2.0)];
        near(Metric::WordPerplexity.figure(&parts).value, 1f64.exp());
        near(Metric::BitsPerByte.figure(&parts).value, 1.0 / 2f64.ln());
        assert_eq!(Metric::BytePerplexity.figure(&parts).stderr, None);
        let figure = Metric::Perplexity.figure(&parts);
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
    fn pooled_errors_weigh_by_items() {
        // Twice two items, 0 and 1 in each: standard error 0.5 each.
        // (1 · 0.25 · 2 + 1 · 0.25 · 2) / (4 − 2) = 0.5; / 4 = 0.125.
        near(
            pooled_stderr(&[(2, 0.5), (2, 0.5)]).unwrap(),
            0.125f64.sqrt(),
        );
        assert_eq!(pooled_stderr(&[(1, 0.0)]), None);
    }
}
