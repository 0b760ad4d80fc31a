//! A draw from the whole vocabulary, which is what a request without filters asks for: no candidates are listed, and what
//! is done for every token is done for several at a time.
//!
//! In: logits `[vocab_size]` and a number in [0, 1); out: an id. Sums are made in lanes and blocks of a fixed size, so that
//! the result is the same on every platform.

use retort_kernels::ops::exp;

/// Sums that are made side by side.
const LANES: usize = 8;
/// Weights whose sum is kept.
const BLOCK: usize = 256;

/// The largest logit that is a number; none if there is none.
pub(super) fn largest(logits: &[f32]) -> Option<f32> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let take = |lane: &mut f32, logit: f32| {
        // NaN is not below infinity
        let logit = if logit < f32::INFINITY {
            logit
        } else {
            f32::NEG_INFINITY
        };
        *lane = if logit > *lane { logit } else { *lane };
    };
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            take(lane, *logit);
        }
    }
    rest.iter().for_each(|logit| take(&mut lanes[0], *logit));
    let largest = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    largest.is_finite().then_some(largest)
}

/// The token at the share `at` of all weights, `exp((logit - max) / temperature)`. `weights` is scratch.
pub(super) fn draw(
    logits: &[f32],
    max: f32,
    temperature: f32,
    at: f64,
    weights: &mut Vec<f32>,
) -> u32 {
    weights.resize(logits.len(), 0.0);
    for (weight, &logit) in weights.iter_mut().zip(logits) {
        let likely = exp((logit - max) / temperature);
        *weight = if logit.is_finite() { likely } else { 0.0 };
    }
    let sums: Vec<f64> = weights.chunks(BLOCK).map(sum).collect();
    let mut left = at * sums.iter().sum::<f64>();
    for (block, (weights, sum)) in weights.chunks(BLOCK).zip(sums).enumerate() {
        if left >= sum {
            left -= sum;
            continue;
        }
        // rounding may leave a little for the next block
        for (i, weight) in weights.iter().enumerate() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return (block * BLOCK + i) as u32;
            }
        }
    }
    // or leave a little behind the last
    weights
        .iter()
        .rposition(|weight| *weight > 0.0)
        .unwrap_or(0) as u32
}

fn sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, weight) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*weight);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|weight| f64::from(*weight)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_the_token_at_that_share() {
        let mut logits: Vec<f32> = (0..1000)
            .map(|i| ((i * 7919 % 1009) as f32).sin() * 6.0)
            .collect();
        logits[3] = f32::NAN;
        logits[500] = f32::INFINITY;
        logits[999] = f32::NEG_INFINITY;
        let max = largest(&logits).unwrap();
        let numbers = logits.iter().copied().filter(|logit| logit.is_finite());
        assert_eq!(max, numbers.fold(f32::MIN, f32::max));
        let temperature = 0.7;
        let weight = |logit: &f32| {
            if logit.is_finite() {
                (f64::from(logit - max) / 0.7).exp()
            } else {
                0.0
            }
        };
        let total: f64 = logits.iter().map(weight).sum();
        let mut scratch = Vec::new();
        let mut reached = 0.0;
        for (id, logit) in logits.iter().enumerate() {
            let share = weight(logit) / total;
            // well inside the token's part of all
            if share > 1e-5 {
                for inside in [0.01, 0.5, 0.99] {
                    let at = reached + inside * share;
                    let drawn = draw(&logits, max, temperature, at, &mut scratch);
                    assert_eq!(drawn, id as u32, "{at}");
                }
            }
            reached += share;
        }
        let last = draw(&logits, max, temperature, 1.0 - 1e-17, &mut scratch);
        assert_eq!(last, 998);
        assert_eq!(draw(&logits, max, temperature, 0.0, &mut scratch), 0);
    }

    #[test]
    fn there_may_be_no_number() {
        assert_eq!(largest(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]), None);
        assert_eq!(largest(&[]), None);
        assert_eq!(largest(&[f32::NAN, -1.0]), Some(-1.0));
        assert_eq!(
            draw(
                &[f32::NAN, -1.0, f32::INFINITY],
                -1.0,
                1.0,
                0.9,
                &mut Vec::new()
            ),
            1
        );
    }
}
