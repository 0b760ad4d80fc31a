//! `retort generate`: samples text from a training checkpoint.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use retort_tokenizer::Tokenizer;

/// Sample text from a checkpoint (a look while training; for speed, export and use `retort run`)
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  retort generate runs/web-4m -p 'The film was' -n 40 --temperature 0.8"
)]
pub struct Args {
    /// A Hugging Face directory, or a run directory (its newest checkpoint)
    checkpoint: PathBuf,
    /// The text to continue
    #[arg(short, long)]
    prompt: String,
    /// Most tokens to generate
    #[arg(short, default_value_t = 64)]
    n: usize,
    /// 0 takes the likeliest token
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu (burn-flex), ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let checkpoint = retort_train::model_directory(&args.checkpoint)?;
    let device = retort_train::device(&args.device)?;
    let (config, model) = retort_model::load(&checkpoint, &device)?;
    let tokenizer = Tokenizer::from_file(&checkpoint, None)?;
    let mut ids = tokenizer.encode(&args.prompt)?;
    if ids.is_empty() {
        ids.push(tokenizer.eot());
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        bail!(
            "{}: its tokenizer gives id {id}, but the model has {} rows",
            checkpoint.display(),
            config.vocab_size
        );
    }
    let mut out = std::io::stdout();
    write!(out, "{}", args.prompt)?;
    let mut written = Vec::new();
    let mut shown = 0;
    let sampling = (args.temperature, args.seed);
    let mut outcome = Ok(());
    retort_model::generate(&config, &model, &device, &ids, args.n, sampling, |id| {
        written.push(id);
        // A character may take several tokens: an incomplete one waits.
        let Ok(text) = tokenizer.decode(&written) else {
            return false;
        };
        if !text.ends_with('\u{fffd}') && text.is_char_boundary(shown) {
            outcome = write!(out, "{}", &text[shown..]).and_then(|()| out.flush());
            shown = text.len();
        }
        outcome.is_ok()
    });
    outcome?;
    writeln!(out)?;
    Ok(())
}
