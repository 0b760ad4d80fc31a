//! The distillation objective: what a teacher says about a batch, mixed with the text.

use burn::tensor::{Device, Tensor};
use retort_data::Tokenizer;
use retort_model::Decoder;
use retort_train::{BatchTensors, Loss, Objective};

use crate::cache;
use crate::config::TeacherConfig;
use crate::error::Result;
use crate::teacher::{self, Teach};

/// The losses of `[teacher.losses]`; each that counts is a part with its own name.
pub struct Distillation {
    teacher: Box<dyn Teach>,
    config: TeacherConfig,
}

impl Distillation {
    /// The objective of `config`, for a student with `tokenizer` that trains on `device` with
    /// rows as `rows` describes.
    ///
    /// # Errors
    /// Those of [`teacher::open`].
    pub fn open(
        config: TeacherConfig,
        tokenizer: &Tokenizer,
        device: &Device,
        rows: &cache::Rows,
    ) -> Result<Self> {
        let teacher = teacher::open(&config, tokenizer, device, rows)?;
        Ok(Self { teacher, config })
    }
}

/// What the parts are called in `metrics.jsonl`.
const PARTS: [&str; 5] = [
    "cross_entropy",
    "forward_kl",
    "reverse_kl",
    "jensen_shannon",
    "total_variation",
];

impl Objective for Distillation {
    fn loss(
        &self,
        model: &Decoder,
        hidden: Tensor<3>,
        batch: &BatchTensors,
    ) -> retort_train::Result<Loss> {
        let lesson = self.teacher.lesson(batch);
        let lesson = lesson.map_err(retort_train::Error::objective)?;
        let c = &self.config;
        let mixture = c.losses.at(batch.step, c.temperature, c.chunk);
        let (targets, weights) = (batch.targets.clone(), batch.weights.clone());
        let found = model.distillation(hidden, targets, weights, lesson, mixture);
        let [forward, reverse, js, tv] = mixture.divergences();
        // What the text says is worth seeing even where it does not count.
        let counts = [1.0, forward, reverse, js, tv]
            .into_iter()
            .map(|w| w != 0.0);
        let parts = PARTS.into_iter().zip(found.parts).zip(counts);
        Ok(Loss {
            total: found.total,
            parts: parts
                .filter_map(|(p, counts)| counts.then_some(p))
                .collect(),
        })
    }
}
