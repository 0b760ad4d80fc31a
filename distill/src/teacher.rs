//! A teacher that runs beside the student: a Hugging Face directory, in Burn.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use retort_data::Tokenizer;
use retort_model::{Decoder, ModelConfig};
use retort_train::BatchTensors;

use crate::error::{Error, Result};

/// A loaded teacher; its weights are constants.
pub struct Teacher {
    /// Its shape.
    pub config: ModelConfig,
    model: Decoder,
}

impl Teacher {
    /// Loads the model in `path` onto `device` and checks that its tokenizer gives the
    /// same ids as `student`'s.
    ///
    /// # Errors
    /// Anything wrong with the directory; [`Error::Vocabulary`] with the first differing id.
    pub fn load(path: &Path, student: &Tokenizer, device: &Device) -> Result<Self> {
        let theirs = Tokenizer::from_file(path, None)?;
        let size = theirs.vocab_size().max(student.vocab_size()) as u32;
        for id in 0..size {
            let (a, b) = (theirs.token(id), student.token(id));
            if a != b {
                let show = |t: Option<String>| t.map_or("absent".into(), |t| format!("{t:?}"));
                return Err(Error::Vocabulary {
                    teacher: path.to_owned(),
                    id,
                    theirs: show(a),
                    ours: show(b),
                });
            }
        }
        let device = device.clone().without_autodiff();
        let (config, model) = retort_model::load(path, &device)?;
        Ok(Self { config, model })
    }

    /// Logits `[B, T, V]` for a batch, as constants on its autodiff device.
    pub fn logits(&self, batch: &BatchTensors) -> Tensor<3> {
        let mut inner = batch.clone();
        inner.inputs = batch.inputs.clone().inner();
        Tensor::from_inner(inner.logits(&self.model))
    }
}
