//! Where a model's weights come from when it is built: at random, or from a checkpoint.
//!
//! A model asks for rows of each tensor of [`tensors`](retort_format::tensors()), in the order of
//! that list, and says whether it wants a matrix as stored (`[out, in]`) or transposed.

use std::ops::Range;

use burn::tensor::TensorData;
use rand::SeedableRng;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;
use retort_format::checkpoint::SafetensorsMap;
use retort_format::{Kind, ModelConfig, Precision, TensorSpec};

use crate::tensor_data::read;

/// A source of weights.
pub trait Weights {
    /// Rows `rows` of the tensor `spec`; a matrix as `[rows, in]` or, with `transpose`,
    /// as `[in, rows]`.
    fn take(&mut self, spec: &TensorSpec, rows: Range<usize>, transpose: bool) -> TensorData;
}

/// The field's initialisation: normal with `initializer_range`, the projections that
/// write into the residual stream scaled by 1/√(2 · layers) (GPT-2, section 2.3), norms
/// at one, biases at zero. The same seed gives the same weights on every device.
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
    fn take(&mut self, spec: &TensorSpec, rows: Range<usize>, transpose: bool) -> TensorData {
        let (rows, columns) = (rows.len(), spec.shape.get(1).copied());
        let n = rows * columns.unwrap_or(1);
        let std = match spec.kind {
            Kind::Norm => return TensorData::new(vec![1f32; n], [rows]),
            Kind::Bias => return TensorData::new(vec![0f32; n], [rows]),
            Kind::Residual => self.residual_std,
            Kind::Table | Kind::Matrix => self.std,
        };
        let normal = Normal::new(0.0, std).expect("resolve() checked that the deviation is finite");
        let columns = columns.unwrap_or(1);
        let draws = normal.sample_iter(&mut self.rng).take(n).map(|v| v as f32);
        if !transpose {
            return TensorData::new(draws.collect::<Vec<_>>(), [rows, columns]);
        }
        let mut values = vec![0f32; n];
        for (i, v) in draws.enumerate() {
            values[i % columns * rows + i / columns] = v;
        }
        TensorData::new(values, [columns, rows])
    }
}

/// The weights of an opened checkpoint: matrices in the precision asked for, vectors in f32.
pub(crate) struct CheckpointWeights {
    map: SafetensorsMap,
    precision: Precision,
}

impl CheckpointWeights {
    pub(crate) fn new(map: SafetensorsMap, precision: Precision) -> Self {
        Self { map, precision }
    }
}

impl Weights for CheckpointWeights {
    /// # Panics
    /// `spec` is not among the tensors that [`SafetensorsMap::check`] has found.
    fn take(&mut self, spec: &TensorSpec, rows: Range<usize>, transpose: bool) -> TensorData {
        let precision = match spec.kind {
            Kind::Bias | Kind::Norm => Precision::F32,
            Kind::Table | Kind::Matrix | Kind::Residual => self.precision,
        };
        read(&self.map, spec, rows, precision, transpose)
    }
}
