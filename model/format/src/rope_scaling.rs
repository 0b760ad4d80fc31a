//! How rotary frequencies are scaled for sequences longer than the model first saw.
//!
//! In: `config.json`'s `rope_scaling`, or the divisors [head_dim / 2] of a GGUF file's `rope_freqs.weight`. Out:
//! frequencies in radians a position, divisors, or parameters. A GGUF file has `linear` as a factor, and `llama3` only
//! as its result, the divisor of every frequency; [`RopeScaling::from_divisors`] finds parameters that give the same
//! divisors. Sources: `transformers`' `modeling_rope_utils.py`, llama.cpp's `conversion/llama.py`.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// How frequencies are changed for sequences longer than the model first saw, as
/// `config.json`'s `rope_scaling` says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// How many times longer sequences become.
        factor: f64,
    },
    /// Llama 3.1's: wavelengths above `original_max_position_embeddings` /
    /// `low_freq_factor` divided by `factor`, those below `original_max_position_embeddings`
    /// / `high_freq_factor` kept, a ramp in frequency between.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Where the ramp begins, in turns within the first length.
        low_freq_factor: f64,
        /// Where it ends.
        high_freq_factor: f64,
        /// The length before stretching, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Whether its numbers make sense.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        match *self {
            Self::Linear { factor } | Self::Llama3 { factor, .. } if !positive(factor) => {
                Err("factor must be above 0")
            }
            Self::Llama3 {
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: length,
                ..
            } if !(positive(low) && high.is_finite() && high > low && length > 0) => Err(
                "low_freq_factor must be above 0 and below high_freq_factor, \
                 and original_max_position_embeddings at least 1",
            ),
            _ => Ok(()),
        }
    }

    pub(crate) fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, .. } => {
                let kept = self.kept(frequency);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }

    /// The share of `frequency` that [`Llama3`](Self::Llama3) keeps: 0 where the wavelength is
    /// long, 1 where it is short.
    fn kept(&self, frequency: f64) -> f64 {
        let Self::Llama3 {
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: length,
            ..
        } = *self
        else {
            return 0.0;
        };
        let turns = length as f64 * frequency / TAU;
        ((turns - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The divisor of each rotary frequency, the contents of a GGUF file's `rope_freqs.weight`
    /// `[head_dim / 2]`, where the scaling is [`Llama3`](Self::Llama3).
    pub fn frequency_divisors(&self, head_dim: usize, theta: f64) -> Option<Vec<f32>> {
        let Self::Llama3 { factor, .. } = *self else {
            return None;
        };
        let divisor = |frequency: f64| match self.kept(frequency) {
            0.0 => factor,
            1.0 => 1.0,
            kept => 1.0 / ((1.0 - kept) / factor + kept),
        };
        let frequencies = base_frequencies(head_dim, theta);
        Some(frequencies.map(|f| divisor(f) as f32).collect())
    }

    /// A scaling that gives these divisors, if there is one: `Some(None)` where all are 1.
    /// `original_length` is the length trained on, where the file says it; it scales the other
    /// parameters without changing the divisors, so any value will do.
    pub fn from_divisors(
        divisors: &[f32],
        theta: f64,
        original_length: Option<usize>,
    ) -> Option<Option<Self>> {
        if divisors.iter().all(|&divisor| divisor == 1.0) {
            return Some(None);
        }
        let head_dim = 2 * divisors.len();
        let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
        let published = [original_length.unwrap_or(8192), 8192].map(|length| Self::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: length,
        });
        let solved = Self::solve(divisors, factor, theta, original_length);
        let gives = |scaling: &Self| {
            let ours = scaling.frequency_divisors(head_dim, theta);
            let near = |(ours, theirs): (&f32, &f32)| {
                f64::from((ours - theirs).abs()) <= TOLERANCE * f64::from(*theirs)
            };
            ours.is_some_and(|ours| ours.iter().zip(divisors).all(near))
        };
        let candidates = published.into_iter().chain(solved.into_iter().flatten());
        candidates.into_iter().find(gives).map(Some)
    }

    /// The parameters of the ramp from two points on it, as the short decimals that people publish
    /// and as they come: between its ends, 1 / divisor is linear in the frequency.
    fn solve(
        divisors: &[f32],
        factor: f64,
        theta: f64,
        original_length: Option<usize>,
    ) -> Option<[Self; 2]> {
        let ramp: Vec<(f64, f64)> = base_frequencies(2 * divisors.len(), theta)
            .zip(divisors.iter().map(|&divisor| f64::from(divisor)))
            .filter(|&(_, divisor)| divisor > 1.0 && divisor < factor)
            .map(|(frequency, divisor)| {
                let kept = (1.0 / divisor - 1.0 / factor) / (1.0 - 1.0 / factor);
                (frequency, kept)
            })
            .collect();
        let (&(f0, s0), &(f1, s1)) = (ramp.first()?, ramp.last()?);
        // kept = slope · frequency - offset, with slope = length / (2π (high - low)) and
        // offset = low / (high - low)
        let slope = (s0 - s1) / (f0 - f1);
        let offset = slope * f0 - s0;
        // With no length to go by, the one that makes low_freq_factor about 1.
        let length = original_length.map_or((slope * TAU / offset).round(), |n| n as f64);
        let span = length / (TAU * slope);
        let (low, high) = (offset * span, (offset + 1.0) * span);
        let found = [factor, low, high, length];
        let sound = found.iter().all(|x| x.is_finite() && *x > 0.0) && low < high;
        let with = |low, high| Self::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: length as usize,
        };
        let short = |x: f64| (x * 1e3).round() / 1e3;
        sound.then(|| [with(short(low), short(high)), with(low, high)])
    }
}

/// The divisors that parameters found again may be off by, relative: some roundings of an f32.
const TOLERANCE: f64 = 1e-6;

/// Radians a position for each of the head_dim / 2 pairs, unscaled.
pub(crate) fn base_frequencies(head_dim: usize, theta: f64) -> impl Iterator<Item = f64> {
    (0..head_dim / 2).map(move |pair| theta.powf(-2.0 * pair as f64 / head_dim as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let of_wavelength = |w: f64| std::f64::consts::TAU / w;
        for (wavelength, factor) in [(100.0, 1.0), (2048.0, 1.0), (8192.0, 8.0), (1e6, 8.0)] {
            let f = of_wavelength(wavelength);
            assert!(
                (scaling.apply(f) - f / factor).abs() < 1e-9 * f,
                "{wavelength}"
            );
        }
        // Two turns of 8192: a third of the ramp.
        let f = of_wavelength(4096.0);
        let expected = 2.0 / 3.0 * f / 8.0 + f / 3.0;
        assert!((scaling.apply(f) - expected).abs() < 1e-12);
    }

    fn llama3(factor: f64, low: f64, high: f64, original: usize) -> RopeScaling {
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        }
    }

    #[test]
    fn llama3_parameters_are_found_again_from_divisors() {
        for (factor, low, high, original, dim, theta) in [
            (8.0, 1.0, 4.0, 8192, 128, 5e5),
            (32.0, 1.0, 4.0, 8192, 64, 5e5),
            (4.0, 1.5, 3.25, 2048, 64, 1e5),
        ] {
            let scaling = llama3(factor, low, high, original);
            let divisors = scaling.frequency_divisors(dim, theta).unwrap();
            let found = RopeScaling::from_divisors(&divisors, theta, Some(original));
            assert_eq!(found, Some(Some(scaling)));
        }
    }

    #[test]
    fn without_the_trained_length_other_llama3_parameters_give_the_same_divisors() {
        let scaling = llama3(4.0, 2.0, 5.0, 2048);
        let divisors = scaling.frequency_divisors(128, 5e5).unwrap();
        let found = RopeScaling::from_divisors(&divisors, 5e5, None).unwrap();
        let again = found.unwrap().frequency_divisors(128, 5e5).unwrap();
        for (a, b) in again.iter().zip(&divisors) {
            assert!((a - b).abs() <= b * 1e-6, "{a} for {b}");
        }
    }

    #[test]
    fn divisors_of_another_kind_are_not_taken_for_llama3() {
        let longrope = [1.0, 1.5, 1.2, 4.0];
        assert_eq!(RopeScaling::from_divisors(&longrope, 1e4, None), None);
        assert_eq!(RopeScaling::from_divisors(&[1.0; 4], 1e4, None), Some(None));
        assert_eq!(
            RopeScaling::from_divisors(&[0.5, f32::NAN], 1e4, None),
            None
        );
    }
}
