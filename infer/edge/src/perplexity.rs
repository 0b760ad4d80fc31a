//! `retort-edge perplexity`: how well a model predicts a text, alone or beside the one it was made of.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use retort_engine::Model;
use retort_engine::divergence::{Divergence, divergence};
use retort_engine::perplexity::perplexity;
use serde_json::json;

use crate::output;
use crate::runtime::Runtime;

/// Perplexity of a text, over the same windows as llama-perplexity
#[derive(clap::Args)]
#[command(
    after_help = "The text is cut into windows of --ctx tokens; the second half of each is scored.\n\n\
    Example:\n  retort-edge perplexity model.gguf --text wiki.test.raw --ctx 512\n  \
    retort-edge perplexity model-q4_0.gguf --text wiki.test.raw --against model-f32.gguf --json"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// More models, to be compared with the same parent in one run of it
    #[arg(value_name = "FILE.gguf", requires = "against")]
    more: Vec<PathBuf>,
    /// The text, a UTF-8 file
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The model that FILE was quantized from: say how far FILE is from it
    #[arg(long, value_name = "PARENT.gguf")]
    against: Option<PathBuf>,
    /// Tokens in a window
    #[arg(long, default_value_t = 512, value_name = "N")]
    ctx: usize,
    /// Score the text's first N windows only
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Prints the perplexity, and with a parent how far the model is from it.
pub fn run(args: Args) -> Result<()> {
    let bytes = std::fs::read(&args.text).with_context(|| args.text.display().to_string());
    let bytes = bytes.map_err(|error| anyhow::anyhow!("{error:#}"))?;
    // A file cut at a byte count may end inside a character.
    let text = String::from_utf8_lossy(&bytes);
    match &args.against {
        None => alone(&args, &text),
        Some(parent) => beside(&args, parent, &text),
    }
}

fn alone(args: &Args, text: &str) -> Result<()> {
    let bar = output::progress_bar("perplexity");
    let model = Model::open_with(&args.file, args.runtime.settings()?)?;
    let progress = |done: usize, all: usize, so_far: f64| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(format!("windows, {so_far:.3}"));
    };
    let result = perplexity(&model, text, args.ctx, args.windows, progress)?;
    bar.finish_and_clear();
    if args.json {
        return output::print_json(&json!({
            "perplexity": result.perplexity,
            "standard_error": result.standard_error,
            "tokens": result.tokens,
        }));
    }
    eprintln!(
        "{} tokens scored in {} windows of {}; standard error {:.4}",
        result.tokens, result.windows, args.ctx, result.standard_error
    );
    output::print(&format!("{:.4}\n", result.perplexity))
}

fn beside(args: &Args, parent: &Path, text: &str) -> Result<()> {
    let bar = output::progress_bar("perplexity");
    let settings = args.runtime.settings()?;
    let open = |path| Model::open_with(path, settings.clone());
    let parent = open(parent)?;
    let files: Vec<_> = std::iter::once(&args.file).chain(&args.more).collect();
    let models: Vec<_> = files
        .iter()
        .map(|path| open(path))
        .collect::<Result<_, _>>()?;
    let results = divergence(
        &parent,
        &models,
        text,
        args.ctx,
        args.windows,
        |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        },
    )?;
    bar.finish_and_clear();
    if args.json {
        let mut objects: Vec<_> = results.iter().map(Divergence::json).collect();
        return match objects.len() {
            1 => output::print_json(&objects.remove(0)),
            _ => output::print_json(&objects),
        };
    }
    for (file, result) in files.iter().zip(&results) {
        output::print(&format!("{}, {}", file.display(), result.table()))?;
    }
    Ok(())
}
