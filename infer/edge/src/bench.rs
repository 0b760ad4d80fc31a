//! `retort-edge bench`: how fast a model is on this machine.

use std::path::PathBuf;

use anyhow::Result;
use retort_engine::bench::{BenchSettings, Figures, bench};
use retort_engine::decoder::Engine;
use retort_format::gguf::Gguf;

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
    /// Print the figures as CSV, with optimum-benchmark's column names
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// The figures, and what they are of.
#[derive(serde::Serialize)]
struct Report {
    model: String,
    model_bytes: u64,
    parameters: u64,
    threads: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
    #[serde(flatten)]
    figures: Figures,
}

/// Prints the figures.
pub fn run(args: Args) -> Result<()> {
    let settings = BenchSettings {
        prompt: args.prompt,
        generate: args.generate,
        reps: args.reps,
    };
    let bar = output::progress_bar("bench");
    let gguf = Gguf::open(&args.file)?;
    let (bytes, parameters) = (
        gguf.file_size(),
        gguf.tensors().map(|t| t.n_elements()).sum(),
    );
    let engine = Engine::with(gguf, args.runtime.settings()?)?;
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let figures = bench(&engine, &settings, progress)?;
    bar.finish_and_clear();
    eprintln!(
        "{} threads, {} kernels, prompt {}, {} generated, median of {}",
        engine.pool().threads(),
        retort_kernels::active()?.name,
        args.prompt,
        args.generate,
        args.reps
    );
    if args.json {
        return output::print_json(&Report {
            model: args.file.display().to_string(),
            model_bytes: bytes,
            parameters,
            threads: engine.pool().threads(),
            prompt_tokens: args.prompt,
            generated_tokens: args.generate,
            figures,
        });
    }
    if args.csv {
        return output::print(&figures.csv(&args.file.display().to_string(), &settings));
    }
    output::print(&table(&figures))
}

fn table(figures: &Figures) -> String {
    let memory = figures.peak_rss_bytes.map(output::bytes);
    let spread = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        format!("{least:.4} to {most:.4}")
    };
    let share =
        |share: Option<f64>| share.map_or("unknown".into(), |s| format!("{:.0} %", s * 100.0));
    let joules = figures.joules_per_token;
    format!(
        "prefill      {:10.1} tokens/s   {:.1} G multiply-adds/s, {} of this machine's peak\n\
         decode       {:10.1} tokens/s   {:.1} GB/s of weights, {} of its read bandwidth\n\
         first token  {:10.4} s          {}\n\
         next tokens  {:10.4} s each     {}\n\
         peak memory  {:>10}\n\
         energy       {:>10}\n",
        figures.prefill_tokens_per_second,
        figures.prefill_macs_per_second / 1e9,
        share(figures.prefill_share_of_peak),
        figures.decode_tokens_per_second,
        figures.decode_bytes_per_second / 1e9,
        share(figures.decode_share_of_bandwidth),
        figures.ttft_seconds,
        spread(&figures.ttft_seconds_values),
        figures.tpot_seconds,
        spread(&figures.tpot_seconds_values),
        memory.as_deref().unwrap_or("unknown"),
        joules.map_or("unknown".into(), |j| format!("{j:.3} J a token")),
    )
}
