//! A model to be converted, as it lies on disk: tensors under the names, shapes and order of rows that they have in a
//! GGUF file, their rows as f32 when they are asked for.
//!
//! Three implementations: [`GgufSource`], a file; [`CheckpointSource`], a Hugging Face directory; [`RotatedSource`],
//! another source in rotated coordinates. None holds more than a matrix in memory, none writes temporary files.

mod checkpoint;
mod gguf;
mod hadamard;
mod rotated;
mod tokenizer;
mod weight_source;

use std::path::Path;

use retort_engine::decoder::EngineSettings;
use retort_format::Result;

pub use checkpoint::CheckpointSource;
pub use gguf::GgufSource;
pub use rotated::{RotatedSource, Rotation};
pub use weight_source::{SourceTensor, WeightSource};

/// The model at `path`, a GGUF file or a Hugging Face directory.
///
/// # Errors
///
/// As of [`GgufSource::open`] and [`CheckpointSource::open`].
pub fn open(path: &Path, settings: &EngineSettings) -> Result<Box<dyn WeightSource>> {
    Ok(if path.is_dir() {
        Box::new(CheckpointSource::open(path)?)
    } else {
        Box::new(GgufSource::open(path, settings)?)
    })
}
