//! How rotary positions are stretched, between the two file formats.
//!
//! A Hugging Face configuration names a rule and its parameters. GGUF writes `linear` as a factor,
//! and `llama3` only as its result, the divisor of every frequency in `rope_freqs.weight`
//! [head_dim / 2]; [`RopeScaling::from_divisors`] finds parameters that give the same divisors.
//! Sources: `transformers`' `modeling_rope_utils.py`, llama.cpp's `conversion/llama.py`.

use std::f64::consts::TAU;

/// The divisors that parameters found again may be off by, relative: some roundings of an f32.
const TOLERANCE: f64 = 1e-6;

/// How positions are stretched past the trained context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f64),
    /// Llama 3's: low frequencies divided by a factor, high ones kept, a ramp between.
    Llama3 {
        /// What the lowest frequencies are divided by.
        factor: f64,
        /// Turns within `original_context` below which a frequency is divided in full.
        low_freq_factor: f64,
        /// Turns above which a frequency is kept.
        high_freq_factor: f64,
        /// The trained context in tokens.
        original_context: f64,
    },
}

impl RopeScaling {
    /// The divisor of each rotary frequency, the contents of `rope_freqs.weight`
    /// [head_dim / 2], where the scaling needs them.
    pub fn frequency_divisors(&self, head_dim: usize, theta: f64) -> Option<Vec<f32>> {
        let &Self::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } = self
        else {
            return None;
        };
        let divisor = |frequency: f64| {
            let turns = original_context * frequency / TAU;
            if turns > high_freq_factor {
                1.0
            } else if turns < low_freq_factor {
                factor
            } else {
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        let divisors = frequencies(head_dim, theta).map(|frequency| divisor(frequency) as f32);
        Some(divisors.collect())
    }

    /// A scaling that gives these divisors, if there is one: `llama3`, or none where all are 1.
    /// `original_context` is the length trained on, where the file says it; it scales the other
    /// parameters without changing the divisors, so any value will do.
    pub fn from_divisors(
        divisors: &[f32],
        theta: f64,
        original_context: Option<f64>,
    ) -> Option<Self> {
        if divisors.iter().all(|&divisor| divisor == 1.0) {
            return Some(Self::None);
        }
        let head_dim = 2 * divisors.len();
        let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
        let published = [original_context.unwrap_or(8192.0), 8192.0].map(|original| Self::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: original,
        });
        let solved = Self::solve(divisors, factor, theta, original_context);
        let solved = solved.into_iter().flatten();
        let gives = |scaling: &Self| {
            let ours = scaling
                .frequency_divisors(head_dim, theta)
                .unwrap_or_default();
            let near = |(ours, theirs): (&f32, &f32)| {
                f64::from((ours - theirs).abs()) <= TOLERANCE * f64::from(*theirs)
            };
            ours.iter().zip(divisors).all(near)
        };
        published.into_iter().chain(solved).find(gives)
    }

    /// The parameters of the ramp from two points on it, as the short decimals that people publish
    /// and as they come: between its ends, 1 / divisor is linear in the frequency.
    fn solve(
        divisors: &[f32],
        factor: f64,
        theta: f64,
        original_context: Option<f64>,
    ) -> Option<[Self; 2]> {
        let ramp: Vec<(f64, f64)> = frequencies(2 * divisors.len(), theta)
            .zip(divisors.iter().map(|&divisor| f64::from(divisor)))
            .filter(|&(_, divisor)| divisor > 1.0 && divisor < factor)
            .map(|(frequency, divisor)| {
                (
                    frequency,
                    (1.0 / divisor - 1.0 / factor) / (1.0 - 1.0 / factor),
                )
            })
            .collect();
        let (&(f0, s0), &(f1, s1)) = (ramp.first()?, ramp.last()?);
        // smooth = slope · frequency - offset, with slope = original / (2π (high - low)) and
        // offset = low / (high - low)
        let slope = (s0 - s1) / (f0 - f1);
        let offset = slope * f0 - s0;
        // With no length to go by, the one that makes low_freq_factor about 1.
        let original_context = original_context.unwrap_or_else(|| (slope * TAU / offset).round());
        let span = original_context / (TAU * slope);
        let (low, high) = (offset * span, (offset + 1.0) * span);
        let found = [factor, low, high, original_context];
        let sound = found.iter().all(|x| x.is_finite() && *x > 0.0) && low < high;
        let with = |low, high| Self::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context,
        };
        let short = |x: f64| (x * 1e3).round() / 1e3;
        sound.then(|| [with(short(low), short(high)), with(low, high)])
    }
}

/// Radians per position of every pair of a head.
fn frequencies(head_dim: usize, theta: f64) -> impl Iterator<Item = f64> {
    (0..head_dim / 2).map(move |pair| theta.powf(-2.0 * pair as f64 / head_dim as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3(factor: f64, low: f64, high: f64, original: f64) -> RopeScaling {
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context: original,
        }
    }

    #[test]
    fn published_parameters_are_found_again() {
        for (scaling, dim, theta) in [
            (llama3(8.0, 1.0, 4.0, 8192.0), 128, 5e5),
            (llama3(32.0, 1.0, 4.0, 8192.0), 64, 5e5),
            (llama3(4.0, 1.5, 3.25, 2048.0), 64, 1e5),
        ] {
            let divisors = scaling.frequency_divisors(dim, theta).unwrap();
            let RopeScaling::Llama3 {
                original_context, ..
            } = scaling
            else {
                unreachable!()
            };
            let found = RopeScaling::from_divisors(&divisors, theta, Some(original_context));
            assert_eq!(found, Some(scaling));
        }
    }

    #[test]
    fn without_the_trained_length_other_parameters_give_the_same_divisors() {
        let scaling = llama3(4.0, 2.0, 5.0, 2048.0);
        let divisors = scaling.frequency_divisors(128, 5e5).unwrap();
        let found = RopeScaling::from_divisors(&divisors, 5e5, None).unwrap();
        let again = found.frequency_divisors(128, 5e5).unwrap();
        for (a, b) in again.iter().zip(&divisors) {
            assert!((a - b).abs() <= b * 1e-6, "{a} for {b}");
        }
    }

    #[test]
    fn divisors_of_another_kind_are_not_taken_for_llama3() {
        let longrope = [1.0, 1.5, 1.2, 4.0];
        assert_eq!(RopeScaling::from_divisors(&longrope, 1e4, None), None);
        assert_eq!(
            RopeScaling::from_divisors(&[1.0; 4], 1e4, None),
            Some(RopeScaling::None)
        );
        assert_eq!(
            RopeScaling::from_divisors(&[0.5, f32::NAN], 1e4, None),
            None
        );
    }
}
