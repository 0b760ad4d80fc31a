//! [`WeightSource`]: tensors under the names, shapes and order of rows of a GGUF file, read a few rows at a time.

use std::ops::Range;

use retort_engine::decoder::Config;
use retort_format::gguf::Metadata;
use retort_format::gguf::names::HEAD;
use retort_format::{Error, ModelConfig, Result};

/// A tensor of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in a GGUF file.
    pub name: String,
    /// Its sizes in a GGUF file, contiguous dimension first.
    pub dims: Vec<u64>,
}

impl SourceTensor {
    /// The number of weights.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// The length of a row and the number of rows; a vector is one row.
    pub fn shape(&self) -> (usize, usize) {
        let cols = self.dims.first().map_or(1, |&n| n as usize);
        let rows = self.dims.iter().skip(1).map(|&n| n as usize).product();
        (cols, rows)
    }

    /// Two dimensions: a tensor that is quantized.
    pub fn is_matrix(&self) -> bool {
        self.dims.len() == 2
    }
}

/// A model whose weights are read as they lie.
pub trait WeightSource {
    /// The metadata of a GGUF file of the model, tokenizer and chat template included.
    fn metadata(&self) -> &Metadata;

    /// Shapes and constants.
    fn config(&self) -> &Config;

    /// Every tensor, in the order of a GGUF file.
    fn tensors(&self) -> &[SourceTensor];

    /// What tensor number `tensor` is called in the source's own files, for messages.
    fn label(&self, tensor: usize) -> &str {
        &self.tensors()[tensor].name
    }

    /// Reads rows of tensor number `tensor` into `out` [rows, cols], which loses what it held.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] for weights that are no finite numbers.
    ///
    /// # Panics
    ///
    /// There are no such rows.
    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()>;
}

impl dyn WeightSource + '_ {
    /// The number of the tensor of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.tensors().iter().position(|tensor| tensor.name == name)
    }

    /// The shape as a checkpoint's configuration has it.
    pub fn model_config(&self) -> ModelConfig {
        self.config().model_config(self.find(HEAD).is_none())
    }

    /// All weights of the tensor of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] if there is none; as [`rows`](WeightSource::rows).
    pub fn whole(&self, name: &str) -> Result<Vec<f32>> {
        let Some(tensor) = self.find(name) else {
            let problem = "is not in the file; it may be incomplete or of another model";
            return Err(Error::tensor(self.metadata().path(), name, problem));
        };
        let mut out = Vec::new();
        self.rows(tensor, 0..self.tensors()[tensor].shape().1, &mut out)?;
        Ok(out)
    }
}
