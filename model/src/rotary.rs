//! Rotary position embedding, half-split as in Hugging Face's Llama and Qwen.
//!
//! In: queries or keys `[batch, heads, sequence, head_dim]`. Out: the same shape, where
//! the pair (i, i + head_dim/2) at position p is turned by p · theta^(−2i/head_dim)
//! radians (Su et al., arXiv 2104.09864, eq. 34; the pairing is Hugging Face's, Burn's
//! own `RotaryEncoding` pairs neighbours). The frequencies may be stretched: see
//! [`RopeScaling`].

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::qwen::ntk_alpha;

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

    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let turns =
                    original_max_position_embeddings as f64 * frequency / std::f64::consts::TAU;
                let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// Radians a position for each of the head_dim / 2 pairs, in a sequence of `length` tokens
/// (which only matters to dynamic scaling, used where `stretch`).
pub(crate) fn frequencies(config: &ModelConfig, length: usize, stretch: bool) -> Vec<f64> {
    let d = config.head_dim as f64;
    let mut theta = config.rope_theta;
    if stretch && config.use_dynamic_ntk {
        theta *= ntk_alpha(length, config.seq_length).powf(d / (d - 2.0));
    }
    (0..config.head_dim / 2)
        .map(|i| theta.powf(-2.0 * i as f64 / d))
        .map(|f| config.rope_scaling.as_ref().map_or(f, |s| s.apply(f)))
        .collect()
}

/// Cosines and sines of the angles at `positions`, each `[positions, head_dim / 2]`, in f32
/// rounded from f64.
pub(crate) fn angles(positions: &[usize], frequencies: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let angles = positions
        .iter()
        .flat_map(|&p| frequencies.iter().map(move |f| p as f64 * f));
    angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
}

/// Cosines and sines for given positions, each `[1 or B, 1, T, head_dim / 2]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    /// Tables of [`angles`] for `rows` rows of positions.
    pub(crate) fn new(
        (cos, sin): (Vec<f32>, Vec<f32>),
        rows: usize,
        half: usize,
        device: &Device,
    ) -> Self {
        let shape = [rows, 1, cos.len() / half / rows, half];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }

    /// Turns `x` by its positions.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let a = x.clone().narrow(3, 0, half);
        let b = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![
                a.clone() * cos.clone() - b.clone() * sin.clone(),
                b * cos + a * sin,
            ],
            3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_the_half_split_pairs() {
        let device = Device::flex();
        let rotary = Rotary::new(angles(&[0, 1, 2], &[1.0, 0.1]), 1, 2, &device);
        let x = Tensor::from_data(
            TensorData::new([1f32, 2.0, 3.0, 4.0].repeat(3), [1, 1, 3, 4]),
            &device,
        );
        let y = rotary.apply(x).into_data().try_into_vec::<f32>().unwrap();
        for p in 0..3 {
            for (i, freq) in [1.0f64, 0.1].into_iter().enumerate() {
                let (s, c) = (p as f64 * freq).sin_cos();
                let (a, b) = ((i + 1) as f64, (i + 3) as f64);
                assert!((y[4 * p + i] as f64 - (a * c - b * s)).abs() < 1e-6);
                assert!((y[4 * p + i + 2] as f64 - (b * c + a * s)).abs() < 1e-6);
            }
        }
    }

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
}
