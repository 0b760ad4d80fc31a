//! Where a model's weights come from when it is built: at random, or from a checkpoint.
//!
//! A model asks for each tensor by its Hugging Face name and shape; the source answers
//! with row-major f32 values. Matrices have Hugging Face's layout, `[out, in]`.

use rand::SeedableRng;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;

use crate::config::ModelConfig;

/// A source of named tensors.
pub trait Weights {
    /// The values of tensor `name`, row-major, exactly `shape`'s product of them.
    ///
    /// A source that lacks the tensor remembers that and answers with zeros, so that all
    /// problems can be told at once.
    fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32>;
}

/// The field's initialisation: normal with `initializer_range`, the projections that
/// write into the residual stream scaled by 1/√(2 · layers) (GPT-2, section 2.3), norms
/// at one. The same seed gives the same weights on every device.
pub struct RandomInit {
    rng: ChaCha8Rng,
    std: f64,
    residual_std: f64,
}

impl RandomInit {
    /// A generator for `config`'s model.
    pub fn new(config: &ModelConfig, seed: u64) -> Self {
        let std = config.initializer_range;
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            std,
            residual_std: std / (2.0 * config.num_hidden_layers as f64).sqrt(),
        }
    }
}

impl Weights for RandomInit {
    fn take(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let n = shape.iter().product();
        if name.ends_with("norm.weight") {
            return vec![1.0; n];
        }
        let residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let std = if residual {
            self.residual_std
        } else {
            self.std
        };
        let normal = Normal::new(0.0, std).expect("resolve() checked that the deviation is finite");
        normal
            .sample_iter(&mut self.rng)
            .take(n)
            .map(|v| v as f32)
            .collect()
    }
}
