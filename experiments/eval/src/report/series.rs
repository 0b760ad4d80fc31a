//! Curves from records: thinning, smoothing, ranges and tick labels.

use crate::run_metrics::MetricsRecord;

/// (tokens, value) in order of tokens.
pub(super) type Points = Vec<(f64, f64)>;

/// Most points a curve is drawn with.
const MOST_POINTS: usize = 600;

/// The finite values of `field` against tokens, averaged in groups if there are many.
pub(super) fn points(
    records: &[MetricsRecord],
    field: impl Fn(&MetricsRecord) -> Option<f64>,
) -> Points {
    let all: Points = records
        .iter()
        .filter_map(|r| {
            field(r)
                .filter(|v| v.is_finite())
                .map(|v| (r.tokens as f64, v))
        })
        .collect();
    let group = all.len().div_ceil(MOST_POINTS).max(1);
    all.chunks(group)
        .map(|chunk| {
            let n = chunk.len() as f64;
            let sum = chunk
                .iter()
                .fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
            (sum.0 / n, sum.1 / n)
        })
        .collect()
}

/// A moving average over about a fortieth of the curve to either side: as far forward as back, so
/// that a steep curve is not shifted, but at the end, where only what came before is left.
pub(super) fn smooth(points: &[(f64, f64)]) -> Points {
    let most = points.len() / 40;
    let average = |(i, &(x, _)): (usize, &(f64, f64))| {
        let back = most.min(i);
        let forward = back.min(points.len() - 1 - i);
        let window = &points[i - back..=i + forward];
        (
            x,
            window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64,
        )
    };
    points.iter().enumerate().map(average).collect()
}

/// The smallest and largest value over all curves.
pub(super) fn range<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<(f64, f64)> {
    points.fold(None, |range, &(_, y)| {
        let (low, high) = range.unwrap_or((y, y));
        Some((low.min(y), high.max(y)))
    })
}

/// A number short enough for an axis: `0`, `250`, `1.5k`, `20M`, `3e-4`.
pub(super) fn short(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        m if m >= 1e12 => (value / 1e12, "T"),
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e3 => (value / 1e3, "k"),
        m if m >= 0.01 || m == 0.0 => (value, ""),
        _ => return trim_exponent(&format!("{value:.1e}")),
    };
    let digits = format!("{scaled:.2}");
    format!(
        "{}{unit}",
        digits.trim_end_matches('0').trim_end_matches('.')
    )
}

/// `3.0e-4` to `3e-4`.
fn trim_exponent(text: &str) -> String {
    text.replace(".0e", "e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let written = [0.0, 0.05, 2.5, 250.0, 1500.0, 2e7, 3e-4, 1.5e-5, 1e9].map(short);
        assert_eq!(
            written,
            [
                "0", "0.05", "2.5", "250", "1.5k", "20M", "3e-4", "1.5e-5", "1G"
            ]
        );
    }

    #[test]
    fn smoothing_keeps_a_constant_and_the_first_point() {
        let flat: Points = (0..100).map(|i| (f64::from(i), 2.0)).collect();
        assert!(smooth(&flat).iter().all(|p| (p.1 - 2.0).abs() < 1e-12));
        let falling: Points = (0..100)
            .map(|i| (f64::from(i), f64::from(100 - i)))
            .collect();
        let smoothed = smooth(&falling);
        assert!((smoothed[0].1 - 100.0).abs() < 1e-9);
        assert!(smoothed.windows(2).all(|w| w[1].1 < w[0].1));
        assert!(smooth(&[]).is_empty());
    }

    #[test]
    fn long_curves_are_thinned_and_gaps_left_out() {
        let record = |i: u64| MetricsRecord {
            step: i,
            tokens: i,
            loss: i.is_multiple_of(2).then_some(1.0),
            lr: None,
            grad_norm: None,
            tokens_per_second: None,
            seconds: None,
            validation_loss: None,
            tasks: None,
        };
        let records: Vec<MetricsRecord> = (0..10_000).map(record).collect();
        let thinned = points(&records, |r| r.loss);
        assert!((300..=MOST_POINTS).contains(&thinned.len()));
        assert!(thinned.iter().all(|p| p.1 == 1.0));
        assert!(points(&records, |r| r.lr).is_empty());
    }
}
