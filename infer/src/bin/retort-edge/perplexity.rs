//! `retort-edge perplexity`: how well a model predicts a text.

use std::path::PathBuf;

use anyhow::{Context, Result};
use retort_infer::Model;
use retort_infer::perplexity::perplexity;

use crate::output;
use crate::runtime::Runtime;

/// Perplexity of a text, over the same windows as llama-perplexity
#[derive(clap::Args)]
#[command(
    after_help = "The text is cut into windows of --ctx tokens; the second half of each is scored.\n\n\
    Example:\n  retort-edge perplexity model.gguf --text wiki.test.raw --ctx 512"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// The text, a UTF-8 file
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens in a window
    #[arg(long, default_value_t = 512, value_name = "N")]
    ctx: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Prints the perplexity.
pub fn run(args: Args) -> Result<()> {
    let bytes = std::fs::read(&args.text).with_context(|| args.text.display().to_string());
    let bytes = bytes.map_err(|error| anyhow::anyhow!("{error:#}"))?;
    // A file cut at a byte count may end inside a character.
    let text = String::from_utf8_lossy(&bytes);
    let bar = output::progress_bar("perplexity");
    let model = Model::open_with(&args.file, args.runtime.settings()?)?;
    let progress = |done: usize, all: usize, so_far: f64| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(format!("windows, {so_far:.3}"));
    };
    let result = perplexity(&model, &text, args.ctx, progress)?;
    bar.finish_and_clear();
    if args.json {
        return output::print_json(&serde_json::json!({
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
