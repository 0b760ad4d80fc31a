//! The demo's three training runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use retort_data::EvalRows;
use retort_distill::{Distillation, TeacherConfig};
use retort_tokenizer::Tokenizer;
use retort_train::{CrossEntropy, Objective, Recipe};

use crate::progress::Training;
use crate::signals;

const TEACHER: &str = include_str!("../../experiments/recipes/demo/teacher.toml");
const STUDENT: &str = include_str!("../../experiments/recipes/demo/student.toml");

/// A run that has ended.
pub struct Run {
    /// Its directory's name.
    pub name: String,
    /// What the table calls it.
    pub title: &'static str,
    /// The run directory.
    pub directory: PathBuf,
    /// Its last checkpoint.
    pub checkpoint: PathBuf,
    /// Updates.
    pub steps: u64,
    /// Seconds of training, evaluations apart.
    pub seconds: f64,
    /// The rows it was evaluated on.
    pub validation: Arc<EvalRows>,
    /// Share of documents kept for validation.
    pub validation_fraction: f64,
}

/// Trains the teacher.
pub fn teacher(out: &Path) -> anyhow::Result<Run> {
    let recipe = recipe(out, "teacher", TEACHER, &[])?;
    go(out, "teacher", "teacher", recipe, &CrossEntropy)
}

/// Distils the student.
pub fn student(out: &Path, teacher: &Run) -> anyhow::Result<Run> {
    let path = toml_string(&teacher.checkpoint);
    let recipe = recipe(out, "student", STUDENT, &[format!("teacher.path={path}")])?;
    let config = TeacherConfig::of(&recipe)?;
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    let device = retort_train::device("cpu")?;
    let objective = Distillation::open(config, &tokenizer, &device, &recipe)?;
    go(out, "student", "student, distilled", recipe, &objective)
}

/// Trains the student without a teacher for as many steps as fit into `seconds`.
pub fn control(out: &Path, seconds: f64) -> anyhow::Result<Run> {
    let mut recipe = recipe(out, "student", STUDENT, &[])?.without_teacher();
    // A step's time, from a short run of its own.
    let mut short = recipe.clone();
    short.train.steps = 20;
    short.train.warmup_steps = 0;
    short.train.eval_every = 0;
    short.data.max_validation_rows = 1;
    let probe = go(out, "probe", "probe", short, &CrossEntropy)?;
    fs::remove_dir_all(&probe.directory)?;
    recipe.train.steps = (seconds / (probe.seconds / 20.0)).round().max(1.0) as u64;
    go(out, "control", "student, no teacher", recipe, &CrossEntropy)
}

fn recipe(out: &Path, name: &str, text: &str, more: &[String]) -> anyhow::Result<Recipe> {
    let mut set = vec![
        format!("data.source={}", toml_string(&out.join("corpus"))),
        format!("data.tokenizer={}", toml_string(&out.join("tokenizer"))),
    ];
    set.extend_from_slice(more);
    Ok(Recipe::parse::<TeacherConfig>(
        text,
        Path::new(&format!("demo/{name}.toml")),
        &set,
    )?)
}

fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

fn go(
    out: &Path,
    name: &str,
    title: &'static str,
    recipe: Recipe,
    objective: &dyn Objective,
) -> anyhow::Result<Run> {
    let directory = out.join(name);
    let device = retort_train::device("cpu")?;
    let validation_fraction = recipe.data.validation_fraction;
    let prepared = retort_train::prepare(recipe, &directory, &device, false, &|_| {})?;
    let steps = prepared.recipe.train.steps;
    let validation = prepared.data.validation().clone();
    let bar = Training::new(name, [0, steps], None, true);
    let outcome = retort_train::train(prepared, objective, signals::stop_flag(), &mut |e| {
        bar.event(e)
    })?;
    bar.finish();
    if outcome.stopped {
        bail!("interrupted; run the demo again to start over");
    }
    Ok(Run {
        name: name.to_owned(),
        title,
        directory,
        checkpoint: outcome.checkpoint,
        steps: outcome.step,
        seconds: outcome.seconds,
        validation,
        validation_fraction,
    })
}
