//! `retort distill`: `retort train` with a teacher.

use retort_distill::{Distillation, Teacher, TeacherConfig};
use retort_train::Recipe;

use crate::train;

/// Train a student from a recipe that names a teacher
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  retort distill experiments/recipes/web-distil.toml --set teacher.path=runs/web-4m/checkpoints/step-600\n\n\
    Ctrl-C stops with a checkpoint; the same command with --resume goes on from it."
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let recipe = Recipe::load(&args.train.recipe, &args.train.set)?;
    let config = TeacherConfig::from_table(recipe.teacher.as_ref())?;
    let device = retort_train::device(&args.train.device)?;
    // The teacher is checked before the data is read: it is the likelier thing to be wrong.
    let tokenizer = retort_data::Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    let teacher = Teacher::load(&config.path, &tokenizer, &device)?;
    train::plan_or_go(&args.train, recipe, &Distillation::new(teacher, config))
}
