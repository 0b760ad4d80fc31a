//! `retort`: distils a large language model into a small fast one.
//!
//! One file per subcommand, each a thin call into the crates; the edge binary's subcommands are
//! `retort_edge`'s. Results go to standard output, progress and notes to standard error.

mod challenge;
mod data;
mod demo;
mod distill;
mod distributed;
mod error_chain;
mod eval;
mod export;
mod generate;
mod import;
mod plan;
mod progress;
mod prune;
mod report;
mod signals;
mod task_evaluator;
mod tokenizer;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Training frees and allocates the same tensors every step. The system's allocator returns their pages
/// to the system in between, and page faults slow the next step (`experiments/results/`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    version,
    about = "Distil a large language model into a small one that answers fast on an Arm CPU",
    after_help = "Example:\n  retort demo        the whole pipeline in about two minutes, nothing downloaded"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    #[command(subcommand, about = "Tokenizers")]
    Tokenizer(tokenizer::Command),
    #[command(subcommand, about = "Look at training data, and pack it")]
    Data(data::Command),
    Train(train::Args),
    Distill(distill::Args),
    Prune(prune::Args),
    Generate(generate::Args),
    Export(export::Args),
    Import(import::Args),
    Eval(eval::Args),
    Report(report::Args),
    #[command(
        subcommand,
        about = "A model's score in public challenges, from measured figures"
    )]
    Challenge(challenge::Command),
    #[command(flatten)]
    Edge(retort_edge::Command),
}

/// The command line, with `retort` in the examples of the edge binary's commands.
fn parse() -> Cli {
    let command = Cli::command().mut_subcommands(|subcommand| {
        let Some(help) = subcommand.get_after_help().map(ToString::to_string) else {
            return subcommand;
        };
        subcommand.after_help(help.replace("retort-edge", "retort"))
    });
    let cli = Cli::from_arg_matches(&command.get_matches());
    cli.unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
                .from_env_lossy(),
        )
        .without_time()
        .init();
    let outcome = match parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Train(args) => train::run(&args),
        Command::Distill(args) => distill::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Challenge(command) => challenge::run(&command),
        Command::Edge(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it, as in `retort … | head`.
        Err(error) if retort_edge::output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error_chain::one_line(&error));
            ExitCode::FAILURE
        }
    }
}
