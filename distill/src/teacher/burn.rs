//! A teacher that runs in Burn beside the student: a Hugging Face directory. It alone shows what
//! it computes on the way to its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use retort_data::Tokenizer;
use retort_format::ModelConfig;
use retort_model::{Decoder, TeacherLogits};
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

/// Which states of a teacher are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The residual stream at these depths: 0 is what goes into the first layer, d what comes
    /// out of the d-th.
    pub depths: BTreeSet<usize>,
    /// What attention adds to it in these layers, from 0.
    pub attention: BTreeSet<usize>,
}

/// States of a teacher, `[B, T, E]` each, on its device without autodiff.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// By depth.
    pub hidden: BTreeMap<usize, Tensor<3>>,
    /// By layer.
    pub attention: BTreeMap<usize, Tensor<3>>,
}

impl BurnTeacher {
    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// The states of its layers that are `wanted`, up to the deepest of them, and what its last
    /// layer gives, normed, where `whole`.
    fn run(
        &self,
        batch: &BatchTensors,
        wanted: &Wanted,
        whole: bool,
    ) -> (States, Option<Tensor<3>>) {
        let pieces = self.model.layerwise(inner(batch), batch.documents.as_ref());
        let mut states = States::default();
        let mut x = pieces.embedded();
        let deepest = wanted.depths.last().copied().unwrap_or(0);
        let attended = wanted.attention.last().map_or(0, |i| i + 1);
        let layers = match whole {
            true => self.model.layers.len(),
            false => deepest.max(attended),
        };
        for depth in 0..=layers {
            if wanted.depths.contains(&depth) {
                states.hidden.insert(depth, x.clone());
            }
            if depth == layers {
                break;
            }
            if wanted.attention.contains(&depth) {
                let [attention, y] = pieces.attention_and_layer(depth, x);
                states.attention.insert(depth, attention);
                x = y;
            } else {
                x = pieces.layer(depth, x);
            }
        }
        (states, whole.then(|| pieces.normed(x)))
    }

    /// The states of its layers that are `wanted`.
    pub fn states(&self, batch: &BatchTensors, wanted: &Wanted) -> States {
        self.run(batch, wanted, false).0
    }

    /// What it says about `batch`, and the states of its layers that are `wanted`.
    pub fn lesson_and_states(
        &self,
        batch: &BatchTensors,
        wanted: &Wanted,
    ) -> (TeacherLogits, States) {
        let (states, hidden) = self.run(batch, wanted, true);
        (self.say(hidden.expect("the whole was run")), states)
    }

    /// What it says about the positions whose last layer gives `hidden` `[B, T, E]`, normed.
    fn say(&self, hidden: Tensor<3>) -> TeacherLogits {
        let model = self.model.clone();
        let [b, t, d] = hidden.dims();
        let hidden = hidden.reshape([1, b * t, d]);
        TeacherLogits::Dense {
            vocabulary: model.config().vocab_size,
            logits: Box::new(move |rows| {
                let logits = model.logits(hidden.clone().slice([0..1, rows]));
                let values = logits.into_data().convert::<f32>().try_into_vec();
                values.expect("numbers just converted")
            }),
        }
    }
}

/// The ids of `batch` on a device without autodiff.
fn inner(batch: &BatchTensors) -> Tensor<2, Int> {
    match batch.inputs.device().is_autodiff() {
        true => batch.inputs.clone().inner(),
        false => batch.inputs.clone(),
    }
}

impl Teach for BurnTeacher {
    fn lesson(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
        let mut constant = batch.clone();
        constant.inputs = inner(batch);
        Ok(self.say(constant.hidden(&self.model)))
    }

    fn vocabulary(&self) -> usize {
        self.model.config().vocab_size
    }
}
