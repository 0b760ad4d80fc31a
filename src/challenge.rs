//! `retort challenge`: a model's score in public challenges, from measured figures.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use retort_eval::challenge::{arm, edge_llm};
use retort_eval::results::{self, ModelResults};

#[derive(clap::Subcommand)]
pub enum Command {
    Arm(Arm),
    EdgeLlm(EdgeLlm),
}

/// The Arm challenge (AICAS 2024): accuracy, memory and speed beside a baseline
#[derive(clap::Args)]
#[command(after_help = "Example:\n  for m in small base; do\n    \
    retort eval $m.gguf --tasks arc_challenge,hellaswag,piqa --data eval --json $m.eval.json\n    \
    retort-edge bench $m.gguf --prompt 560 --gen 50 --reps 10 --json > $m.bench.json\n  done\n  \
    retort challenge arm --model small.eval.json,small.bench.json --baseline base.eval.json,base.bench.json\n\n\
    The first has the layout of lm-evaluation-harness's results; `retort-edge bench --csv` writes optimum-benchmark's.")]
pub struct Arm {
    #[command(flatten)]
    of: Model,
    /// Results of the baseline, in the same files
    #[arg(
        long,
        required = true,
        value_delimiter = ',',
        value_name = "FILE.json,…"
    )]
    baseline: Vec<PathBuf>,
    /// Accuracies between which a task counts from 0 to 1, such as piqa=0.5:0.75 [default: chance, and the baseline's]
    #[arg(long, value_name = "TASK=LOW:HIGH")]
    bounds: Vec<String>,
}

/// The edge-LLM challenge: accuracy over its seven tasks, time a token, parameters, memory
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  retort eval small.gguf --tasks commonsense_qa,truthfulqa_mc2 --data eval --json small.eval.json\n  \
    retort-edge bench small.gguf --json > small.bench.json\n  \
    retort challenge edge-llm --model small.eval.json,small.bench.json"
)]
pub struct EdgeLlm {
    #[command(flatten)]
    of: Model,
}

/// The model to score, and the form of the report.
#[derive(clap::Args)]
struct Model {
    /// Results of the model: JSON of `retort eval` and `retort-edge bench`
    #[arg(
        long,
        required = true,
        value_delimiter = ',',
        value_name = "FILE.json,…"
    )]
    model: Vec<PathBuf>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Arm(args) => run_arm(args),
        Command::EdgeLlm(args) => run_edge_llm(args),
    }
}

fn run_arm(args: &Arm) -> anyhow::Result<()> {
    let mut bounds = BTreeMap::new();
    for text in &args.bounds {
        let (task, between) = parse_bounds(text).with_context(|| {
            format!("--bounds {text}: write TASK=LOW:HIGH, such as piqa=0.5:0.75")
        })?;
        bounds.insert(task, between);
    }
    let report = arm::score(&one(&args.of.model)?, &one(&args.baseline)?, &bounds)?;
    if args.of.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for (task, accuracy) in &report.accuracies {
        let between = report.bounds[task];
        println!(
            "{task:<16} {accuracy:.4}   counted from {:.4} to {:.4}",
            between.low, between.high
        );
    }
    println!(
        "file             {:.3} of the baseline's",
        report.compression_rate
    );
    println!("first token      {:.2} times as soon", report.latency_gain);
    println!(
        "prefill          {:.1} tokens/s, {:.2} times",
        report.prefill_tokens_per_second, report.prefill_gain
    );
    println!(
        "decode           {:.1} tokens/s, {:.2} times",
        report.decode_tokens_per_second, report.decode_gain
    );
    println!(
        "memory           {:.1} MB resident, {:.1} MB virtual\n",
        report.rss_bytes as f64 / 1e6,
        report.vms_bytes as f64 / 1e6
    );
    let (terms, weights) = (&report.terms, &report.weights);
    for (name, term, weight) in [
        ("accuracy", terms.accuracy, weights.accuracy),
        (
            "resident memory",
            terms.resident_memory,
            weights.resident_memory,
        ),
        (
            "virtual memory",
            terms.virtual_memory,
            weights.virtual_memory,
        ),
        ("prefill", terms.prefill, weights.prefill),
        ("decode", terms.decode, weights.decode),
    ] {
        println!("{name:<16} {term:.4} × {weight:.2}");
    }
    println!("score            {:.4}", report.score);
    Ok(())
}

fn run_edge_llm(args: &EdgeLlm) -> anyhow::Result<()> {
    let report = edge_llm::score(&one(&args.of.model)?)?;
    if args.of.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for (task, accuracy) in &report.accuracies {
        println!("{task:<16} {accuracy:.4}");
    }
    if let Some(mean) = report.mean_accuracy {
        println!(
            "mean             {mean:.4} over {} of {} tasks",
            report.accuracies.len(),
            edge_llm::TASKS.len()
        );
    }
    if !report.missing.is_empty() {
        println!("not evaluated    {}", report.missing.join(", "));
    }
    println!("time a token     {:.2} ms", report.tpot_seconds * 1e3);
    println!("parameters       {:.1} M", report.parameters as f64 / 1e6);
    let within = if report.within_memory {
        "within"
    } else {
        "beyond"
    };
    println!(
        "memory           {:.1} MB resident, {within} the limit of 12 GB",
        report.peak_rss_bytes as f64 / 1e6
    );
    Ok(())
}

/// The only model of the files.
fn one(files: &[PathBuf]) -> anyhow::Result<ModelResults> {
    let mut models = results::read(files)?;
    if models.len() > 1 {
        let paths: Vec<&str> = models.iter().map(|model| &model.path[..]).collect();
        bail!(
            "figures of one model are wanted here, not of {}",
            paths.join(" and ")
        );
    }
    models.pop().context("no figures")
}

fn parse_bounds(text: &str) -> Option<(String, arm::Bounds)> {
    let (task, between) = text.split_once('=')?;
    let (low, high) = between.split_once(':')?;
    let share = |text: &str| text.parse::<f64>().ok().filter(|v| (0.0..=1.0).contains(v));
    let (low, high) = (share(low)?, share(high)?);
    Some((task.to_owned(), arm::Bounds { low, high }))
}
