//! `retort train`: trains a model from a recipe. `retort distill` uses its arguments, plan and loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use retort_comm::ProcessGroup;
use retort_train::{
    CrossEntropy, NoTeacher, Objective, Outcome, Plan, PlanBuilder, Prepared, Recipe, Tokens,
};

use crate::distributed;
use crate::plan;
use crate::progress::{self, Training};
use crate::signals;
use crate::task_evaluator::TaskEvaluator;

/// Train a model from a recipe
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  retort train experiments/recipes/web-4m.toml --set train.steps=500 --run runs/try\n\n\
    Ctrl-C stops with a checkpoint; the same command with --resume resumes from it.\n\n\
    In a build with the feature mpi, several processes train one model: mpirun -n 4 retort train RECIPE.toml"
)]
pub struct Args {
    /// The recipe
    pub recipe: PathBuf,
    /// Override a key of the recipe, such as train.lr=3e-4; train.lr= takes it away (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// cpu (burn-flex), ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// The run directory [default: runs/ and the recipe's name]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Resume from the run directory's newest checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Print what the run will take, and do not run it: parameters, tokens, memory, arithmetic, and
    /// hours by a timed pass (of a few rows and layers where a batch would take long). Reads no data
    /// and writes nothing; tokenizer and teacher may be missing
    #[arg(long)]
    pub plan: bool,
    /// The plan as JSON
    #[arg(long, requires = "plan")]
    pub json: bool,
    /// The price of an hour of this machine: the plan then has the price of the run
    #[arg(long, value_name = "PRICE", requires = "plan", value_parser = price)]
    pub price_per_hour: Option<f64>,
    /// Plan for a device of F floating-point operations a second, such as 1e14, without a timed
    /// pass
    #[arg(long, value_name = "F", requires = "plan", value_parser = pace)]
    pub flops_per_second: Option<f64>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let recipe = Recipe::load::<NoTeacher>(&args.recipe, &args.set)?;
    distributed::run(|group| match args.plan {
        true if !group.is_main() => Ok(()),
        true => plan(args, &recipe),
        false => train_recipe(group, args, recipe, &CrossEntropy),
    })
}

/// Trains by `recipe` with `objective`.
pub fn train_recipe(
    group: &Arc<ProcessGroup>,
    args: &Args,
    recipe: Recipe,
    objective: &dyn Objective,
) -> anyhow::Result<()> {
    train_with_bar(prepare(group, args, recipe)?, objective)
}

/// Prints the plan of a run of `recipe`.
fn plan(args: &Args, recipe: &Recipe) -> anyhow::Result<()> {
    if let Some(directory) = recipe.missing_model() {
        return print_plan_without_model(args, recipe, directory);
    }
    let builder = PlanBuilder::new(recipe, &retort_train::device(&args.device)?, None)?;
    let plan = match args.flops_per_second {
        Some(_) => builder.counted(),
        None => builder.measured(&CrossEntropy)?,
    };
    print_plan(args, plan)
}

/// Prints `plan` with the given price and pace.
pub fn print_plan(args: &Args, mut plan: Plan) -> anyhow::Result<()> {
    if let Some(pace) = args.flops_per_second {
        plan.at(pace);
    }
    if let Some(price) = args.price_per_hour {
        plan.price(price);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        println!("{}", plan::text(&plan));
    }
    Ok(())
}

/// Prints the tokens of `recipe` where the directory of its initial model does not exist yet.
pub fn print_plan_without_model(
    args: &Args,
    recipe: &Recipe,
    directory: &Path,
) -> anyhow::Result<()> {
    let tokens = Tokens::new(recipe, 0);
    let note = format!(
        "{}: there is no model yet (model.from): parameters, memory, hours and cost are not in this plan; make it \
         as the recipe's first lines say, or name another with --set model.from=DIRECTORY",
        directory.display()
    );
    if args.json {
        let mut value = serde_json::to_value(tokens)?;
        value["notes"] = vec![note].into();
        println!("{value:#}");
    } else {
        println!("{}\nnote        {note}", plan::tokens(&tokens));
    }
    Ok(())
}

/// A price, 0 or more.
fn price(text: &str) -> Result<f64, String> {
    let price = text.parse().ok();
    price
        .filter(|price: &f64| price.is_finite() && *price >= 0.0)
        .ok_or_else(|| "must be a number such as 2.5".to_owned())
}

/// A pace in FLOP/s, above 0.
fn pace(text: &str) -> Result<f64, String> {
    let pace = text.parse().ok();
    pace.filter(|pace: &f64| pace.is_finite() && *pace > 0.0)
        .ok_or_else(|| "must be a number such as 1e14".to_owned())
}

/// Reads the data and opens the run directory, with a progress bar.
fn prepare(group: &Arc<ProcessGroup>, args: &Args, recipe: Recipe) -> anyhow::Result<Prepared> {
    let run = match &args.run {
        Some(run) => run.clone(),
        None => Path::new("runs").join(args.recipe.file_stem().unwrap_or("run".as_ref())),
    };
    let device = retort_train::device(&args.device)?;
    let (bar, show) = progress::documents();
    // First of all: a missing task file would otherwise show hours later.
    let tasks = recipe.tasks.as_ref().filter(|_| group.is_main());
    let evaluator = tasks.map(TaskEvaluator::load).transpose()?;
    let show = |progress| {
        if group.is_main() {
            show(progress);
        }
    };
    let mut prepared = retort_train::prepare_distributed(
        group.clone(),
        recipe,
        &run,
        &device,
        args.resume,
        &show,
    )?;
    prepared.evaluator = evaluator.map(|tasks| Box::new(tasks) as _);
    bar.finish_and_clear();
    Ok(prepared)
}

/// Runs the training loop with a progress bar and prints its outcome.
fn train_with_bar(prepared: Prepared, objective: &dyn Objective) -> anyhow::Result<()> {
    if !prepared.group.is_main() {
        retort_train::train(prepared, objective, signals::stop_flag(), &mut |_| {})?;
        return Ok(());
    }
    let plan = prepared.plan(objective)?;
    eprintln!("{}", plan::text(&plan));
    eprintln!(
        "{} validation rows, run directory {}",
        prepared.data.validation().len(),
        prepared.run.display()
    );
    if prepared.group.size() > 1 {
        eprintln!("{} ranks", prepared.group.size());
    }
    if prepared.first_step() > 0 {
        eprintln!("resuming after step {}", prepared.first_step());
    }
    let steps = [prepared.first_step(), prepared.recipe.train.steps];
    let bar = Training::new("training", steps, Some(&plan), false);
    let outcome = retort_train::train(prepared, objective, signals::stop_flag(), &mut |e| {
        bar.event(e)
    })?;
    bar.finish();
    summary(&outcome);
    Ok(())
}

fn summary(outcome: &Outcome) {
    if outcome.stopped {
        eprintln!(
            "stopped after step {}: add --resume to continue",
            outcome.step
        );
    } else if let Some(evaluation) = &outcome.validation {
        println!("{}", progress::figures(evaluation));
    }
    if outcome.skipped > 0 {
        eprintln!("{} batches were skipped", outcome.skipped);
    }
    println!("{}", outcome.checkpoint.display());
}
