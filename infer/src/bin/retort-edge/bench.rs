//! `retort-edge bench`: how fast a model is on this machine.

use std::path::PathBuf;

use anyhow::Result;
use retort_infer::bench::{Figures, Settings, bench};
use retort_infer::engine::Engine;
use retort_infer::gguf::Gguf;
use retort_infer::kernels;

use crate::output;
use crate::runtime::Runtime;

/// Measure prefill, decoding and memory
#[derive(clap::Args)]
#[command(
    after_help = "Each figure is the median of the repetitions; tokens are decoded after the prompt.\n\n\
    Example:\n  retort-edge bench model.gguf --prompt 512 --gen 128 --threads 4 --json"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_name = "N")]
    prompt: usize,
    /// Tokens generated after it
    #[arg(long = "gen", default_value_t = 128, value_name = "N")]
    generate: usize,
    /// Repetitions
    #[arg(long, default_value_t = 5, value_name = "N")]
    reps: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Prints the figures.
pub fn run(args: Args) -> Result<()> {
    let settings = Settings {
        prompt: args.prompt,
        generate: args.generate,
        reps: args.reps,
    };
    let bar = output::progress_bar("bench");
    let engine = Engine::with(Gguf::open(&args.file)?, args.runtime.settings()?)?;
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let figures = bench(&engine, &settings, progress)?;
    bar.finish_and_clear();
    eprintln!(
        "{} threads, {} kernels, prompt {}, {} generated, median of {}",
        engine.pool().threads(),
        kernels::active()?.name,
        args.prompt,
        args.generate,
        args.reps
    );
    if args.json {
        return output::print_json(&figures);
    }
    output::print(&table(&figures))
}

fn table(figures: &Figures) -> String {
    let memory = figures.peak_rss_bytes.map(output::bytes);
    format!(
        "prefill      {:10.1} tokens/s\ndecode       {:10.1} tokens/s\n\
         first token  {:10.4} s\nnext tokens  {:10.4} s each\npeak memory  {:>10}\n",
        figures.prefill_tokens_per_second,
        figures.decode_tokens_per_second,
        figures.ttft_seconds,
        figures.tpot_seconds,
        memory.as_deref().unwrap_or("unknown")
    )
}
