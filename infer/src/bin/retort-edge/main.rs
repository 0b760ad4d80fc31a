//! retort-edge: runs small language models from GGUF files on a CPU.
//!
//! One file per subcommand, each a thin call into `retort_infer`. Text and figures go to standard
//! output, everything else to standard error; an error is one line and a non-zero exit.

mod bench;
mod chat;
mod info;
mod output;
mod pack;
mod perplexity;
mod quantize;
mod run;
mod runtime;
mod serve;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Runs small language models from GGUF files on a CPU.
#[derive(Parser)]
#[command(
    name = "retort-edge",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  retort-edge run model.gguf -p \"The capital of France is\" -n 16 --temperature 0"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Chat(chat::Args),
    Serve(serve::Args),
    Bench(bench::Args),
    Perplexity(perplexity::Args),
    Info(info::Args),
    Pack(pack::Args),
    Quantize(quantize::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = retort_infer::kernels::init()
        .map_err(anyhow::Error::from)
        .and_then(|_| dispatch(cli.command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough, as in `retort-edge … | head`.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Info(args) => info::run(args),
        Command::Pack(args) => pack::run(args),
        Command::Quantize(args) => quantize::run(args),
    }
}
