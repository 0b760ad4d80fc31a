//! The demo's training runs: a teacher, and three students of one shape in the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use retort_distill::{Distillation, TeacherConfig};
use retort_prune::{PruneOptions, TargetSizes, TextSource};
use retort_tokenizer::Tokenizer;
use retort_train::{CrossEntropy, FromCheckpoint, ModelSection, Objective, Recipe};

use crate::progress::Training;
use crate::signals;

const TEACHER: &str = include_str!("../../experiments/recipes/demo/teacher.toml");
const STUDENT: &str = include_str!("../../experiments/recipes/demo/student.toml");
/// Learning rates of the students without a teacher, the best of a sweep for each
/// (`experiments/results/2026-11-demo.md`); the recipe's is the taught one's.
const SCRATCH_RATE: f64 = 3e-3;
const UNTAUGHT_RATE: f64 = 1e-3;
/// Steps of each of the short runs that a step's time is taken from.
const PACE_STEPS: u64 = 12;

/// A run that has ended.
pub struct Run {
    /// Its directory's name.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// The run directory.
    pub directory: PathBuf,
    /// Its checkpoint of least validation loss.
    pub checkpoint: PathBuf,
    /// Updates until the end of the run.
    pub steps: u64,
    /// Seconds of training until the end of the run, evaluations apart.
    pub seconds: f64,
}

/// Trains the teacher.
pub fn teacher(out: &Path, seed: u64) -> anyhow::Result<Run> {
    let recipe = recipe(out, "teacher", TEACHER, seed, &[])?;
    go(out, "teacher", "teacher", recipe, &CrossEntropy)
}

/// What the three students share.
pub struct Students<'a> {
    out: &'a Path,
    seed: u64,
    teacher: &'a Run,
    /// The student as it is cut out of the teacher.
    cut: PathBuf,
    cut_seconds: f64,
}

impl<'a> Students<'a> {
    /// Cuts the student out of `teacher`, by importance on the students' own text.
    pub fn cut(out: &'a Path, seed: u64, teacher: &'a Run) -> anyhow::Result<Self> {
        let recipe = recipe(out, "student", STUDENT, seed, &[])?;
        let ModelSection::New(shape) = &recipe.model else {
            bail!("demo/student.toml: [model] must be a shape");
        };
        let options = PruneOptions {
            sizes: TargetSizes {
                layers: Some(shape.num_hidden_layers),
                hidden: Some(shape.hidden_size),
                heads: Some(shape.num_attention_heads),
                kv_heads: Some(shape.num_key_value_heads),
                mlp: Some(shape.inner_size()),
                ..TargetSizes::default()
            },
            calibration_text: Some(TextSource {
                source: out.join("own").to_string_lossy().into_owned(),
                tokens: 16_384,
            }),
            seq_len: recipe.data.seq_len,
            ..PruneOptions::default()
        };
        let start = Instant::now();
        let cut = out.join("cut");
        let device = retort_train::device("cpu")?;
        let stop = signals::stop_flag();
        retort_prune::prune(&teacher.checkpoint, &cut, &options, &device, stop, &|_| {})?;
        Ok(Self {
            out,
            seed,
            teacher,
            cut,
            cut_seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Trains all three: from scratch, cut out, cut out and taught. The recipe's steps are the
    /// taught one's; the others take as many as fit into the same time.
    pub fn train(&self) -> anyhow::Result<[Run; 3]> {
        let (taught, alone) = self.paces()?;
        let taught_steps = self.recipe(true)?.train.steps;
        let seconds = taught_steps as f64 * taught;
        let steps = |seconds: f64| (seconds / alone).round().max(1.0) as u64;
        // Cutting takes time, too: from scratch there is that much more to train.
        let scratch = self.alone(false, steps(seconds + self.cut_seconds))?;
        let scratch = go(
            self.out,
            "scratch",
            "student, from scratch",
            scratch,
            &CrossEntropy,
        )?;
        let cut = self.alone(true, steps(seconds))?;
        let cut = go(self.out, "untaught", "student, cut out", cut, &CrossEntropy)?;
        let recipe = self.recipe(true)?;
        let objective = objective(&recipe)?;
        let title = "student, cut out and taught";
        let taught = go(self.out, "student", title, recipe, &objective)?;
        Ok([scratch, cut, taught])
    }

    /// Seconds of a step with the teacher and without, the median of three short runs of each, in
    /// turn.
    fn paces(&self) -> anyhow::Result<(f64, f64)> {
        let short = |mut recipe: Recipe, objective: &dyn Objective| {
            recipe.train.steps = PACE_STEPS;
            recipe.train.warmup_steps = 0;
            recipe.train.eval_every = 0;
            recipe.train.checkpoint_every = 0;
            recipe.data.max_validation_rows = 1;
            let run = go(self.out, "pace", "pace", recipe, objective)?;
            fs::remove_dir_all(&run.directory)?;
            anyhow::Ok(run.seconds / PACE_STEPS as f64)
        };
        let recipe = self.recipe(true)?;
        let objective = objective(&recipe)?;
        let (mut taught, mut alone) = ([0.0; 3], [0.0; 3]);
        for i in 0..3 {
            taught[i] = short(recipe.clone(), &objective)?;
            alone[i] = short(self.alone(true, PACE_STEPS)?, &CrossEntropy)?;
        }
        taught.sort_by(f64::total_cmp);
        alone.sort_by(f64::total_cmp);
        Ok((taught[1], alone[1]))
    }

    fn recipe(&self, cut: bool) -> anyhow::Result<Recipe> {
        let path = toml_string(&self.teacher.checkpoint);
        let set = [format!("teacher.path={path}")];
        let mut recipe = recipe(self.out, "student", STUDENT, self.seed, &set)?;
        if cut {
            recipe.model = ModelSection::From(FromCheckpoint {
                from: self.cut.clone(),
            });
        }
        Ok(recipe)
    }

    fn alone(&self, cut: bool, steps: u64) -> anyhow::Result<Recipe> {
        let mut recipe = self.recipe(cut)?.without_teacher();
        recipe.train.steps = steps;
        recipe.train.lr = if cut { UNTAUGHT_RATE } else { SCRATCH_RATE };
        Ok(recipe)
    }
}

fn objective(recipe: &Recipe) -> anyhow::Result<Distillation> {
    let config = TeacherConfig::of(recipe)?;
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    let device = retort_train::device("cpu")?;
    Ok(Distillation::open(config, &tokenizer, &device, recipe)?)
}

fn recipe(
    out: &Path,
    name: &str,
    text: &str,
    seed: u64,
    more: &[String],
) -> anyhow::Result<Recipe> {
    let source = if name == "teacher" { "corpus" } else { "own" };
    let mut set = vec![
        format!("seed={seed}"),
        format!("data.source={}", toml_string(&out.join(source))),
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
    name: &'static str,
    title: &'static str,
    recipe: Recipe,
    objective: &dyn Objective,
) -> anyhow::Result<Run> {
    let directory = out.join(name);
    let device = retort_train::device("cpu")?;
    let prepared = retort_train::prepare(recipe, &directory, &device, false, &|_| {})?;
    let steps = prepared.recipe.train.steps;
    let bar = Training::new(name, [0, steps], None, true);
    let outcome = retort_train::train(prepared, objective, signals::stop_flag(), &mut |e| {
        bar.event(e)
    })?;
    bar.finish();
    if outcome.stopped {
        bail!("interrupted; run the demo again to start over");
    }
    let best = retort_train::best(&directory)?.map(|(path, _)| path);
    Ok(Run {
        name,
        title,
        checkpoint: best.unwrap_or(outcome.checkpoint),
        directory,
        steps: outcome.step,
        seconds: outcome.seconds,
    })
}
