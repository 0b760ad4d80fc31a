//! retort-edge: runs small language models from GGUF files on a CPU. An error is one line and a non-zero exit.

use std::process::ExitCode;

use clap::Parser;
use retort_edge::{Command, output};

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

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough, as in `retort-edge … | head`.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
