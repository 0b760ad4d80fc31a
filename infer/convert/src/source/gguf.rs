//! A GGUF file as a source of weights.

use std::ops::Range;
use std::path::Path;

use super::weight_source::{SourceTensor, WeightSource};
use retort_engine::decoder::{Config, Engine, EngineSettings};
use retort_format::gguf::panels::refuse_packed;
use retort_format::gguf::{Gguf, Metadata, TensorView};
use retort_format::{Result, quant};

/// A file that the engine runs.
pub struct GgufSource {
    /// It has checked the shapes of all tensors that it uses.
    engine: Engine,
    tensors: Vec<SourceTensor>,
}

impl GgufSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`](retort_format::Error::Unsupported) for a model that the engine does not run or that is
    /// packed; errors of reading.
    pub fn open(path: &Path, settings: &EngineSettings) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        refuse_packed(&gguf)?;
        let engine = Engine::with(gguf, settings.clone())?;
        let source = |tensor: TensorView| SourceTensor {
            name: tensor.name.to_owned(),
            dims: tensor.dims.to_vec(),
        };
        let tensors = engine.gguf().tensors().map(source).collect();
        Ok(Self { engine, tensors })
    }
}

impl WeightSource for GgufSource {
    fn metadata(&self) -> &Metadata {
        self.engine.gguf().metadata()
    }

    fn config(&self) -> &Config {
        self.engine.config()
    }

    fn tensors(&self) -> &[SourceTensor] {
        &self.tensors
    }

    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let gguf = self.engine.gguf();
        let view = gguf.tensor(&self.tensors[tensor].name)?;
        let (cols, all) = view.shape();
        let row_bytes = view.data.len() / all.max(1);
        let data = &view.data[rows.start * row_bytes..rows.end * row_bytes];
        out.resize(rows.len() * cols, 0.0);
        quant::dequantize_row(view.ty, data, out)?;
        gguf.forget(&TensorView { data, ..view });
        Ok(())
    }
}
