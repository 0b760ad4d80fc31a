//! Training: recipe, devices, optimizer, schedule, loop, checkpoints, metrics.
//!
//! In: a [`Recipe`] and an [`Objective`] (cross entropy here; `retort-distill` brings the
//! teacher's). Out: a run directory with `recipe.toml` as resolved, `metrics.jsonl` and
//! `checkpoints/step-N/`, each a Hugging Face directory with the trainer's state beside it.
//!
//! The loop does not know where targets come from: it is handed an objective.

mod adamw;
mod checkpoint;
mod clip;
mod device;
mod ema;
mod error;
mod evaluate;
mod examine;
mod groups;
mod guard;
mod journal;
mod lines;
mod memory;
mod metrics;
mod objective;
mod optimizer;
mod parallel;
mod pass;
mod peak;
mod plan;
mod recipe;
mod recompute;
mod run;
mod schedule;
mod step;
mod tensorboard;
mod trainer;
mod world;

pub use checkpoint::{best, latest, list};
pub use clip::clip;
pub use device::{DEVICES, device};
pub use error::{Error, Result};
pub use evaluate::{Validation, evaluate, target_bytes};
pub use examine::{Examination, Examiner, Figures, Tasks};
pub use groups::{Rule, rules};
pub use guard::Skip;
pub use journal::Sample;
pub use memory::keep_freed_memory;
pub use metrics::{Evaluation, Metrics, read_validation};
pub use objective::{BatchTensors, CrossEntropy, Loss, Objective, Turn};
pub use optimizer::{learning_rates, optimizer};
pub use parallel::DilocoConfig;
pub use pass::backward;
pub use peak::peak_flops_per_second;
pub use plan::{Measured, Memory, Outline, Plan, Targets, Tokens, forward_flops_per_token};
pub use recipe::{Algorithm, Group, ModelSection, Recipe, Schedule, TrainConfig};
pub use recompute::{LayerOutput, layer_by_layer};
pub use run::{Prepared, initial_model, prepare, prepare_among};
pub use schedule::learning_rate;
pub use step::{Gradients, gradients};
pub use trainer::{Event, Outcome, train};
pub use world::World;
