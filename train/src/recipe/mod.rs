//! The recipe: all of a run in one TOML file. Unknown keys are errors; `--set
//! table.key=value` overrides; the resolved form is written into the run directory.

mod overrides;
mod parse;
mod ranges;
mod train;

use std::path::{Path, PathBuf};

use retort_data::DataConfig;
use retort_format::ModelConfig;
use retort_model::{FakeQuantization, LoraConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::eval_hook::TasksConfig;
pub use train::{Algorithm, ParamGroupConfig, Schedule, TrainConfig};

/// A run, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seeds initialisation; the order of the data has `data.seed`.
    #[serde(default)]
    pub seed: u64,
    /// Where text comes from and how it is cut.
    pub data: DataConfig,
    /// The model, new or continued.
    pub model: ModelSection,
    /// Low-rank adapters: they alone are trained, and a checkpoint has them merged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// What weights and activations are rounded to before they are used: those of the file that
    /// the model will be exported to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<FakeQuantization>,
    /// How it is trained.
    pub train: TrainConfig,
    /// The tasks that the weights are evaluated on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksConfig>,
    /// The teacher's table as written; [`teacher`](Self::teacher) has it typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teacher: Option<toml::Table>,
}

/// The `[teacher]` of a command that has none: any such table is an error.
pub enum NoTeacher {}

impl<'de> Deserialize<'de> for NoTeacher {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(D::Error::custom(
            "plays no part here: run `retort distill` with the recipe, or remove the table",
        ))
    }
}

/// `[model]`: either a new shape, or `from = "DIRECTORY"` to continue a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelSection {
    /// Start from the weights of a Hugging Face directory.
    From(FromCheckpoint),
    /// Start at random.
    New(ModelConfig),
}

/// `[model] from = …`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromCheckpoint {
    /// A Hugging Face directory.
    pub from: PathBuf,
}

impl Recipe {
    /// The adapters to train, and the directory of the weights they are beside.
    pub(crate) fn adapters(&self) -> Option<(&LoraConfig, &Path)> {
        match (&self.lora, &self.model) {
            (Some(lora), ModelSection::From(section)) => Some((lora, &section.from)),
            _ => None,
        }
    }

    /// The directory that the model is to start from, where it has no shape to read.
    pub fn missing_model(&self) -> Option<&Path> {
        match &self.model {
            ModelSection::From(section) if !section.from.join("config.json").exists() => {
                Some(&section.from)
            }
            _ => None,
        }
    }

    /// Whether there is a teacher.
    pub fn has_teacher(&self) -> bool {
        self.teacher.is_some()
    }

    /// The recipe without its teacher.
    pub fn without_teacher(mut self) -> Self {
        self.teacher = None;
        self
    }

    /// The recipe as TOML, with the defaults of every table but `[teacher]` filled in.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe has only string keys")
    }
}
