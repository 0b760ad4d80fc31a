//! `retort-edge run`: text that follows a prompt, as it comes.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use retort_engine::Model;
use retort_engine::sampling::Sampling;
use retort_engine::speculate::{DraftModel, Drafter, Lookup};

use crate::output;
use crate::runtime::Runtime;

/// Continue a prompt
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort-edge run model.gguf -p \"The capital of France is\" -n 16 --temperature 0\n  \
    retort-edge run model.gguf -p \"fn main() {\" --speculate lookup"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// The text to continue; control tokens such as <|im_start|> may be written out
    #[arg(short, long)]
    prompt: String,
    /// How many tokens to generate at most
    #[arg(short, long = "tokens", value_name = "N", default_value_t = 128)]
    n: usize,
    /// Randomness: 0 always takes the most likely token
    #[arg(long, default_value_t = 0.8, value_name = "X")]
    temperature: f32,
    /// Choose among this many of the most likely tokens; 0 means all
    #[arg(long, default_value_t = 40, value_name = "K")]
    top_k: usize,
    /// Choose among the most likely tokens that together reach this probability
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// Leave out tokens less likely than this share of the most likely one
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f32,
    /// Seed of the random choice; the same seed gives the same text
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Guess tokens ahead and check several at once, which changes the speed and never the text:
    /// "lookup" guesses from the text so far, a smaller model with the same tokenizer by itself
    #[arg(long, value_name = "lookup|FILE.gguf")]
    speculate: Option<PathBuf>,
    #[command(flatten)]
    runtime: Runtime,
}

/// Streams the text to standard output and the speed to standard error.
pub fn run(args: Args) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        seed: args.seed,
        ..Sampling::default()
    };
    let settings = args.runtime.settings()?;
    let model = Model::open_with(&args.file, settings.clone())?;
    let prompt = model.prompt(&args.prompt)?;
    let small = match &args.speculate {
        Some(file) if file.as_os_str() != "lookup" => Some(Model::open_with(file, settings)?),
        _ => None,
    };
    let context = prompt.len() + args.n;
    let mut draft_model = match &small {
        Some(small) => Some(DraftModel::new(small, &model, context)?),
        None => None,
    };
    let mut lookup = Lookup::default();
    let drafter: Option<&mut dyn Drafter> = match (&args.speculate, &mut draft_model) {
        (None, _) => None,
        (_, Some(draft_model)) => Some(draft_model),
        _ => Some(&mut lookup),
    };
    let mut written = Ok(());
    let generation = model.generate_speculating(&prompt, args.n, &sampling, drafter, |text| {
        written = output::print(text);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written?;
    output::print("\n")?;
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    let (prefill, decode) = (
        generation.prefill.as_secs_f64(),
        generation.decode.as_secs_f64(),
    );
    eprintln!(
        "prompt {} tokens, {:.1} tokens/s; generated {} tokens, {:.1} tokens/s",
        generation.prompt_tokens,
        rate(generation.prompt_tokens, prefill),
        generation.tokens.len(),
        rate(generation.tokens.len().saturating_sub(1), decode),
    );
    let guessed = generation.guessed;
    if guessed.drafted > 0 {
        eprintln!(
            "{} of {} guesses right, {} passes",
            guessed.accepted, guessed.drafted, generation.decode_steps
        );
    }
    Ok(())
}
