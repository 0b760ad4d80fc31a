//! A teacher in Burn: a Hugging Face directory. It is the only one that returns hidden states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use retort_format::ModelConfig;
use retort_model::{Decoder, TeacherLogits};
use retort_tokenizer::Tokenizer;
use retort_train::BatchTensors;

use super::Teacher;
use super::vocabulary::check_vocabulary;
use crate::error::Result;

/// A loaded teacher. Its weights are constants.
pub struct BurnTeacher {
    model: Decoder,
}

impl BurnTeacher {
    /// Loads the model in `path` onto `device` and checks that its tokenizer gives the same
    /// ids as the `student`'s.
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

/// The hidden states that are asked of a teacher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedStates {
    /// Depths of the residual stream: 0 is the input of the first layer, d the output of layer
    /// d − 1.
    pub depths: BTreeSet<usize>,
    /// Layers, from 0, whose attention output is asked for: what attention adds to the residual
    /// stream.
    pub attention: BTreeSet<usize>,
}

/// Hidden states of a teacher, `[B, T, E]` each, on its device without autodiff.
#[derive(Clone, Debug, Default)]
pub struct HiddenStates {
    /// The residual stream by depth.
    pub hidden: BTreeMap<usize, Tensor<3>>,
    /// Attention outputs by layer.
    pub attention: BTreeMap<usize, Tensor<3>>,
}

impl BurnTeacher {
    /// Its config.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// The `requested` states and, if `to_the_end`, the normed output of the last layer; otherwise
    /// no layer after the deepest requested one is run.
    fn run(
        &self,
        batch: &BatchTensors,
        requested: &RequestedStates,
        to_the_end: bool,
    ) -> (HiddenStates, Option<Tensor<3>>) {
        let forward = self
            .model
            .layerwise(ids_without_autodiff(batch), batch.documents.as_ref());
        let mut states = HiddenStates::default();
        let mut x = forward.embedded();
        let deepest = requested.depths.last().copied().unwrap_or(0);
        let attended = requested.attention.last().map_or(0, |i| i + 1);
        let layers = if to_the_end {
            self.model.layers.len()
        } else {
            deepest.max(attended)
        };
        for depth in 0..=layers {
            if requested.depths.contains(&depth) {
                states.hidden.insert(depth, x.clone());
            }
            if depth == layers {
                break;
            }
            if requested.attention.contains(&depth) {
                let [attention, y] = forward.attention_and_layer(depth, x);
                states.attention.insert(depth, attention);
                x = y;
            } else {
                x = forward.layer(depth, x);
            }
        }
        (states, to_the_end.then(|| forward.normed(x)))
    }

    /// The `requested` states.
    pub fn states(&self, batch: &BatchTensors, requested: &RequestedStates) -> HiddenStates {
        self.run(batch, requested, false).0
    }

    /// The logits of `batch`, and the `requested` states.
    pub fn logits_and_states(
        &self,
        batch: &BatchTensors,
        requested: &RequestedStates,
    ) -> (TeacherLogits, HiddenStates) {
        let (states, hidden) = self.run(batch, requested, true);
        (self.logits_of(hidden.expect("run to the end")), states)
    }

    /// The logits of `hidden` `[B, T, E]`, the normed output of the last layer.
    fn logits_of(&self, hidden: Tensor<3>) -> TeacherLogits {
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
fn ids_without_autodiff(batch: &BatchTensors) -> Tensor<2, Int> {
    let ids = batch.inputs.clone();
    if ids.device().is_autodiff() {
        ids.inner()
    } else {
        ids
    }
}

impl Teacher for BurnTeacher {
    fn logits(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
        let mut constant = batch.clone();
        constant.inputs = ids_without_autodiff(batch);
        Ok(self.logits_of(constant.hidden(&self.model)))
    }

    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }
}
