//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), applied to q and k in place.
//!
//! Pair i of a head is turned by the angle position · theta^(-2i / rope_dim) / divisor(i). Which
//! two elements form a pair depends on the architecture: see [`RopePairs`]. Angles are computed in
//! f64, so that long contexts keep their precision. `qwen` replaces theta by
//! theta · alpha^(rope_dim / (rope_dim - 2)) for prompts past its trained length, alpha being
//! [`PastTrained::ntk_alpha`](super::config::PastTrained::ntk_alpha).

use super::config::Config;
use retort_format::RopePairs;

/// The frequencies of a model.
#[derive(Clone, Debug)]
pub struct Rope {
    pairs: RopePairs,
    head_dim: usize,
    /// Radians per position, for each pair.
    frequencies: Vec<f64>,
}

impl Rope {
    /// The frequencies of `config` for a sequence that begins with a prompt of `length`; `divisors`
    /// are the contents of `rope_freqs.weight`.
    pub fn new(config: &Config, divisors: Option<&[f32]>, length: usize) -> Self {
        let alpha = config.past_trained.ntk_alpha(length);
        let mut theta = f64::from(config.rope_theta);
        if alpha != 1.0 && config.rope_dim > 2 {
            theta *= alpha.powf(config.rope_dim as f64 / (config.rope_dim as f64 - 2.0));
        }
        let frequency = |pair: usize| {
            let divisor = divisors.map_or(1.0, |divisors| f64::from(divisors[pair]));
            let frequency = theta.powf(-2.0 * pair as f64 / config.rope_dim as f64);
            frequency / divisor / f64::from(config.rope_factor)
        };
        Self {
            pairs: config.architecture.rope_pairs(),
            head_dim: config.head_dim,
            frequencies: (0..config.rope_dim / 2).map(frequency).collect(),
        }
    }

    /// Cosine and sine of every pair at `position`.
    pub fn turns(&self, position: usize) -> Vec<(f32, f32)> {
        let turn = |frequency: &f64| {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            (cos as f32, sin as f32)
        };
        self.frequencies.iter().map(turn).collect()
    }

    /// Turns every head of `row` [n heads, head_dim] by `turns`.
    pub fn apply(&self, row: &mut [f32], turns: &[(f32, f32)]) {
        let half = self.frequencies.len();
        for head in row.chunks_exact_mut(self.head_dim) {
            for (pair, &(cos, sin)) in turns.iter().enumerate() {
                let (a, b) = match self.pairs {
                    RopePairs::Adjacent => (2 * pair, 2 * pair + 1),
                    RopePairs::Halves => (pair, pair + half),
                };
                let (x, y) = (head[a], head[b]);
                head[a] = x * cos - y * sin;
                head[b] = x * sin + y * cos;
            }
        }
    }
}
