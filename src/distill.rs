//! `retort distill`: trains a student from a teacher; `retort distill cache` writes the teacher's logits
//! to disk for many students.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use retort_comm::ProcessGroup;
use retort_distill::cache::{self, Sparsification, WriteOptions, WriteProgress};
use retort_distill::{Distillation, TeacherConfig, teacher_cost};
use retort_train::{CrossEntropy, PlanBuilder, Recipe};
use serde_json::json;

use crate::{distributed, progress, signals, train};

/// Train a student from a recipe that names a teacher
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  retort distill experiments/recipes/web-distil.toml --set teacher.path=runs/web-4m/checkpoints/step-600\n\n\
    The teacher may also be a .gguf file, which the int4 engine runs, or a cache of a teacher's logits \
    (`retort distill cache --help`).\n\
    Tables of the recipe, beside [teacher.losses]: [teacher.hidden] and [teacher.attention] match layers' states with the teacher's, \
    [teacher.blockwise] starts block by block, [teacher.on_policy] trains on the student's own completions:\n  \
    retort distill recipe.toml --set teacher.hidden.weight=1.0\n  \
    retort distill recipe.toml --set 'teacher.on_policy={ fraction = 0.5, prompt = 32, new_tokens = 64 }'\n\n\
    Ctrl-C stops with a checkpoint; the same command with --resume resumes from it."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: Option<train::Args>,
}

#[derive(clap::Subcommand)]
enum Command {
    Cache(CacheArgs),
}

/// Write the teacher's logits for the recipe's rows as parquet, once for many students
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  retort distill cache recipe.toml --set teacher.path=qwen-7b-q4_0.gguf --out cache --top-k 50\n  \
    retort distill recipe.toml --set teacher.cache=cache\n\n\
    Ctrl-C stops; the same command resumes."
)]
pub struct CacheArgs {
    /// The recipe of the students' runs: its data, its order and its teacher
    recipe: PathBuf,
    /// The directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Keep the K most likely ids of each position, and the probability of all others [default: 50]
    #[arg(long, value_name = "K", conflicts_with = "samples", value_parser = clap::value_parser!(u8).range(1..))]
    top_k: Option<u8>,
    /// Keep N ids of each position, sampled: an unbiased gradient
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    samples: Option<u8>,
    /// Sample from the teacher's probabilities to this power
    #[arg(long, value_name = "T", requires = "samples", default_value_t = 1.0)]
    proposal: f32,
    /// Rows to write [default: those of the recipe's run]
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Override a key of the recipe, such as teacher.path=DIR (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The device of a teacher that is not a .gguf file: cpu, ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The figures as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match (&args.command, &args.train) {
        (Some(Command::Cache(args)), _) => distributed::run(|group| write_cache(group, args)),
        (None, Some(args)) => distributed::run(|group| distill(group, args)),
        (None, None) => bail!("name a recipe: retort distill RECIPE.toml"),
    }
}

fn distill(group: &Arc<ProcessGroup>, args: &train::Args) -> anyhow::Result<()> {
    let recipe = Recipe::load::<TeacherConfig>(&args.recipe, &args.set)?;
    let config = TeacherConfig::of(&recipe)?;
    if args.plan {
        return if group.is_main() {
            plan(args, &recipe, config)
        } else {
            Ok(())
        };
    }
    // The teacher is checked before the data is read: it is more often wrong.
    let objective = open(args, config, &recipe)?;
    for line in objective.plan(recipe.train.steps) {
        if group.is_main() {
            eprintln!("teacher     {line}");
        }
    }
    train::train_recipe(group, args, recipe, &objective)
}

fn open(
    args: &train::Args,
    config: TeacherConfig,
    recipe: &Recipe,
) -> anyhow::Result<Distillation> {
    let device = retort_train::device(&args.device)?;
    let tokenizer = retort_tokenizer::Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    Ok(Distillation::open(config, &tokenizer, &device, recipe)?)
}

/// Prints the plan of a run of `recipe`: timed with its teacher where that can be run, else with the
/// teacher's counted cost.
fn plan(args: &train::Args, recipe: &Recipe, config: TeacherConfig) -> anyhow::Result<()> {
    if let Some(directory) = recipe.missing_model() {
        return train::print_plan_without_model(args, recipe, directory);
    }
    let targets = teacher_cost(&config, recipe.data.seq_len)?;
    let mut builder = PlanBuilder::new(recipe, &retort_train::device(&args.device)?, targets)?;
    if targets.is_none() {
        builder.note(format!(
            "{}: the teacher is not there, and its memory and time are not in this plan: name one with --set \
             teacher.path=DIRECTORY or a .gguf file, or a cache with --set teacher.cache=DIRECTORY",
            config.source().display()
        ));
    }
    let plan = if args.flops_per_second.is_some() {
        builder.counted()
    } else if builder.runs_teacher() {
        let objective = open(args, config, recipe)?;
        for line in objective.plan(recipe.train.steps) {
            if args.json {
                eprintln!("teacher     {line}");
            } else {
                println!("teacher     {line}");
            }
        }
        builder.measured(&objective)?
    } else {
        builder.measured(&CrossEntropy)?
    };
    train::print_plan(args, plan)
}

fn write_cache(group: &Arc<ProcessGroup>, args: &CacheArgs) -> anyhow::Result<()> {
    let recipe = Recipe::load::<TeacherConfig>(&args.recipe, &args.set)?;
    let device = retort_train::device(&args.device)?;
    let sparsification = match args.samples {
        Some(draws) => {
            if !(args.proposal > 0.0 && args.proposal <= 2.0) {
                bail!(
                    "--proposal {}: must be above 0 and at most 2",
                    args.proposal
                );
            }
            let proposal = args.proposal;
            Sparsification::Sampled { draws, proposal }
        }
        None => Sparsification::TopK {
            k: args.top_k.unwrap_or(50),
        },
    };
    let options = WriteOptions {
        sparsification,
        rows: args.rows,
    };
    let bar = progress::bar("rows", 0);
    bar.enable_steady_tick(Duration::from_millis(500));
    let show = |p: WriteProgress| {
        if !group.is_main() {
            return;
        }
        if bar.length() != Some(p.total_rows) {
            bar.set_length(p.total_rows);
            bar.set_position(p.rows);
            bar.reset_eta();
        }
        bar.set_position(p.rows);
        let rate = p.positions as f64 / bar.elapsed().as_secs_f64();
        bar.set_message(format!("{rate:.0} tokens/s"));
    };
    let written = cache::write(
        group,
        &recipe,
        &args.out,
        options,
        &device,
        signals::stop_flag(),
        &show,
    )?;
    bar.finish_and_clear();
    if !group.is_main() {
        return Ok(());
    }
    let tokens_per_second = written.positions as f64 / written.seconds.max(1e-9);
    if args.json {
        let figures = json!({
            "rows": written.rows,
            "bytes": written.bytes,
            "bytes_per_token": written.bytes_per_token,
            "tokens": written.positions,
            "tokens_per_second": tokens_per_second,
            "seconds": written.seconds,
        });
        println!("{figures:#}");
    } else {
        println!(
            "{} of {} rows, {:.1} MB, {:.1} bytes a token, {tokens_per_second:.0} tokens/s",
            written.rows,
            written.total_rows,
            written.bytes as f64 / 1e6,
            written.bytes_per_token
        );
    }
    if written.rows < written.total_rows {
        eprintln!("stopped: the same command resumes");
    }
    Ok(())
}
