//! A teacher that runs in Burn beside the student: a Hugging Face directory.

use std::path::Path;

use burn::tensor::Device;
use retort_data::Tokenizer;
use retort_model::{Decoder, Lesson};
use retort_train::BatchTensors;

use super::{Teach, check_vocabulary};
use crate::error::Result;

/// A loaded teacher; its weights are constants.
pub struct BurnTeacher {
    model: Decoder,
}

impl BurnTeacher {
    /// Loads the model in `path` onto `device` and checks that its tokenizer gives the same
    /// ids as `student`'s.
    ///
    /// # Errors
    /// Anything wrong with the directory; [`Error::Vocabulary`](crate::Error::Vocabulary)
    /// with the first differing id.
    pub fn load(path: &Path, student: &Tokenizer, device: &Device) -> Result<Self> {
        let theirs = Tokenizer::from_file(path, None)?;
        check_vocabulary(path, |id| theirs.token(id), theirs.vocab_size(), student)?;
        let device = device.clone().without_autodiff();
        let (_, model) = retort_model::load(path, &device)?;
        Ok(Self { model })
    }
}

impl Teach for BurnTeacher {
    fn lesson(&self, batch: &BatchTensors) -> Result<Lesson> {
        let mut inner = batch.clone();
        if inner.inputs.device().is_autodiff() {
            inner.inputs = inner.inputs.inner();
        }
        let model = self.model.clone();
        let hidden = inner.hidden(&model);
        let [b, t, d] = hidden.dims();
        let hidden = hidden.reshape([1, b * t, d]);
        Ok(Lesson::Dense {
            vocabulary: model.config().vocab_size,
            logits: Box::new(move |rows| {
                let logits = model.logits(hidden.clone().slice([0..1, rows]));
                let values = logits.into_data().convert::<f32>().try_into_vec();
                values.expect("numbers just converted")
            }),
        })
    }

    fn vocabulary(&self) -> usize {
        self.model.config().vocab_size
    }
}
