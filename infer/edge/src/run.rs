//! `retort-edge run`: text that follows a prompt, as it comes.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use retort_engine::Model;
use retort_engine::constrain::{Constraint, Form, Forms};
use retort_engine::decode::DecodeOptions;
use retort_engine::logprobs::Logprob;
use retort_engine::sampling::Sampling;
use serde_json::{Value, json};

use crate::output;
use crate::runtime::{Runtime, Speculate, guesses};

/// Continue a prompt
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort-edge run model.gguf -p \"The capital of France is\" -n 16 --temperature 0\n  \
    retort-edge run model.gguf -p \"fn main() {\" --speculate lookup\n  \
    retort-edge run model.gguf -p \"A number: \" --regex '[0-9]+' --logprobs 3"
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
    /// Hold the text to JSON of this schema
    #[arg(long, value_name = "SCHEMA", group = "form")]
    json_schema: Option<String>,
    /// Hold the text to a regular expression
    #[arg(long, value_name = "REGEX", group = "form")]
    regex: Option<String>,
    /// Hold the text to the grammar in this file (llguidance's form of Lark)
    #[arg(long, value_name = "FILE", group = "form")]
    grammar: Option<PathBuf>,
    /// Write a JSON object a token instead of text: its probability, and the N likeliest tokens in its place
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    #[command(flatten)]
    speculate: Speculate,
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
    let speculation = args.speculate.open(&settings)?;
    let drafter = speculation.drafter(&model, prompt.len() + args.n)?;
    let options = DecodeOptions {
        constraint: args.constraint(&model)?,
        logprobs: args.logprobs,
        ..DecodeOptions::new(args.n, &sampling)
    };
    let mut written = Ok(());
    let generation = model.generate_as(&prompt, options, drafter, |token, text| {
        written = match token.filter(|_| args.logprobs.is_some()) {
            Some(token) => output::print(&format!("{}\n", token_json(&token.logprob, &model))),
            None if args.logprobs.is_some() => Ok(()),
            None => output::print(text),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written?;
    if args.logprobs.is_none() {
        output::print("\n")?;
    }
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
    if let Some(guesses) = guesses(generation.speculated) {
        eprintln!("{guesses}, {} passes", generation.decode_steps);
    }
    Ok(())
}

impl Args {
    /// What the text is held to.
    fn constraint(&self, model: &Model) -> Result<Option<Constraint>> {
        let form = match (&self.json_schema, &self.regex, &self.grammar) {
            (Some(schema), ..) => Form::JsonSchema(
                serde_json::from_str(schema).context("--json-schema is not valid JSON")?,
            ),
            (_, Some(regex), _) => Form::Regex(regex.clone()),
            (.., Some(file)) => Form::Lark(
                std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
            ),
            _ => return Ok(None),
        };
        let forms = Forms::new(&model.tokenizer).map_err(anyhow::Error::msg)?;
        let constraint = forms.compile(&form).map_err(anyhow::Error::msg)?;
        Ok(Some(constraint))
    }
}

/// A token with its probability and the likeliest in its place, as JSON.
fn token_json(logprob: &Logprob, model: &Model) -> Value {
    let told = |id: u32, logprob: f32| {
        let text = String::from_utf8_lossy(model.tokenizer.bytes(id)).into_owned();
        json!({"id": id, "token": text, "logprob": logprob})
    };
    let mut token = told(logprob.id, logprob.logprob);
    let top = logprob.top.iter().map(|&(id, logprob)| told(id, logprob));
    token["top"] = top.collect();
    token
}
