//! Training: recipe, devices, optimizer, schedule, loop, checkpoints, metrics.
//!
//! In: a [`Recipe`] and an [`Objective`] (cross entropy here; `retort-distill` brings the
//! teacher's). Out: a run directory with `recipe.toml` as resolved, `metrics.jsonl` and
//! `checkpoints/step-N/`, each a Hugging Face directory with the trainer's state beside it.
//!
//! The loop does not know where targets come from: the objective says what it needs of a forward
//! pass ([`StepPlan`]), and the trainer runs the passes.

mod activation_checkpointing;
mod adamw;
mod backward;
mod batch_tensors;
mod checkpoint;
mod clip;
mod device;
mod distributed;
mod ema;
mod error;
mod eval_hook;
mod evaluate;
mod jsonl;
mod layer_pass;
mod loss_spike;
mod memory;
mod metrics;
mod objective;
mod optimizer;
mod param_groups;
mod peak;
mod plan;
mod recipe;
mod run;
mod run_log;
mod schedule;
mod step;
mod tensorboard;
mod trainer;

pub use backward::backward;
pub use batch_tensors::BatchTensors;
pub use checkpoint::{best, latest, list, model_directory};
pub use clip::clip;
pub use device::{DEVICES, device};
pub use error::{Error, Result};
pub use eval_hook::{Evaluator, TaskEvaluation, TaskMetrics, TasksConfig};
pub use evaluate::{Validation, evaluate, target_bytes};
pub use loss_spike::Skip;
pub use memory::keep_freed_memory;
pub use metrics::{Evaluation, Metrics};
pub use objective::{
    Block, CrossEntropy, LayerLosses, LayerSums, Loss, Objective, OutputLoss, StepPlan,
    UpdateSettings,
};
pub use optimizer::{learning_rates, optimizer};
pub use param_groups::{ParamGroup, param_groups};
pub use peak::peak_flops_per_second;
pub use plan::{Measured, Memory, Plan, PlanBuilder, TeacherCost, Tokens, forward_flops_per_token};
pub use recipe::{
    Algorithm, FromCheckpoint, ModelSection, NoTeacher, ParamGroupConfig, Recipe, Schedule,
    TrainConfig,
};
pub use run::{Prepared, initial_model, prepare, prepare_distributed};
pub use run_log::Sample;
pub use schedule::learning_rate;
pub use step::{Gradients, gradients};
pub use trainer::{Event, Outcome, train};
