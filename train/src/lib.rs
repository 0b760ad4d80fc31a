//! Training: recipe, devices, optimizer, schedule, loop, checkpoints, metrics.
//!
//! In: a [`Recipe`] and an [`Objective`] (cross entropy here; `retort-distill` brings the
//! teacher's). Out: a run directory with `recipe.toml` as resolved, `metrics.jsonl` and
//! `checkpoints/step-N/`, each a Hugging Face directory with the trainer's state beside it.
//!
//! The loop does not know where targets come from: it is handed an objective.

mod checkpoint;
mod device;
mod error;
mod evaluate;
mod files;
mod metrics;
mod objective;
mod optimizer;
mod recipe;
mod run;
mod schedule;
mod trainer;

pub use checkpoint::{latest, list};
pub use device::{DEVICES, device};
pub use error::{Error, Result};
pub use evaluate::{Validation, evaluate};
pub use metrics::{Metrics, read_validation};
pub use objective::{BatchTensors, CrossEntropy, Loss, Objective};
pub use optimizer::{adamw, clip};
pub use recipe::{ModelSection, Recipe, TrainConfig};
pub use run::{Prepared, prepare};
pub use schedule::learning_rate;
pub use trainer::{Event, Outcome, train};
