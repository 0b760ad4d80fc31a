//! `retort-edge chat`: a conversation in the terminal.

mod commands;
mod editor;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use retort_engine::Model;
use retort_engine::chat::{Conversation, Ended, Reply};
use retort_engine::sampling::Sampling;

use crate::output;
use crate::runtime::{Runtime, Speculate, guesses};
use commands::{Command, Next};
use editor::{Editor, Line};

/// Talk with a model in the terminal
#[derive(clap::Args)]
#[command(
    after_help = "A line that ends with \\ goes on; \"\"\" begins and ends a text of several lines. /help lists commands.\n\
    Ctrl-C stops an answer.\n\nExample:\n  retort-edge chat model.gguf --system \"Answer in one sentence.\""
)]
pub struct Args {
    /// The model, with a chat template inside
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tokens that a conversation may have [default: the model's own, at most 8192]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens that an answer may have
    #[arg(long = "tokens", short, value_name = "N", default_value_t = 2048)]
    n: usize,
    /// Randomness: 0 always takes the most likely token
    #[arg(long, default_value_t = 0.8, value_name = "X")]
    temperature: f32,
    /// Seed of the random choice
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    #[command(flatten)]
    speculate: Speculate,
    #[command(flatten)]
    runtime: Runtime,
}

/// Tokens of context unless more are asked for.
const CONTEXT: usize = 8192;
/// Ctrl-C has been pressed.
static STOP: AtomicBool = AtomicBool::new(false);
/// An answer is being written.
static ANSWERING: AtomicBool = AtomicBool::new(false);

/// Talks until the user has enough.
pub fn run(args: Args) -> Result<()> {
    let settings = args.runtime.settings()?;
    let model = Model::open_with(&args.file, settings.clone())?;
    let speculation = args.speculate.open(&settings)?;
    let trained = model.engine.config().context_length;
    let context = args.ctx.unwrap_or(trained.min(CONTEXT));
    let mut conversation = Conversation::speculating(&model, context, &speculation)?;
    if let Some(system) = &args.system {
        conversation.set_system(system);
    }
    let mut sampling = Sampling {
        temperature: args.temperature,
        seed: args.seed,
        ..Sampling::default()
    };
    sampling.validate().map_err(anyhow::Error::msg)?;
    ctrlc::set_handler(|| {
        STOP.store(true, Ordering::Relaxed);
        if !ANSWERING.load(Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    let mut editor = Editor::new()?;
    editor.say(&format!(
        "{}, {context} tokens of context; /help lists commands",
        args.file.display()
    ));
    loop {
        let text = match editor.line()? {
            Line::Text(text) => text,
            Line::Interrupted => {
                editor.say("Ctrl-D or /quit to leave");
                continue;
            }
            Line::End => return Ok(()),
        };
        if text.trim().is_empty() {
            continue;
        }
        let said = match Command::parse(&text) {
            None => text,
            Some(command) => match commands::act(command, &mut conversation, &mut sampling) {
                Ok(Next::Go(line)) => {
                    editor.say(&line);
                    continue;
                }
                Ok(Next::Quit) => return Ok(()),
                Err(problem) => {
                    editor.say(&format!("error: {problem}"));
                    continue;
                }
            },
        };
        match answer(&mut conversation, &said, args.n, &sampling) {
            Ok(reply) => editor.say(&figures(&reply)),
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => editor.say(&format!("error: {error}")),
        }
        // another seed for the next answer, so that the same question is not answered with the same dice
        sampling.seed = sampling.seed.wrapping_add(1);
    }
}

/// Writes the answer to standard output as it comes.
fn answer(
    conversation: &mut Conversation,
    text: &str,
    n: usize,
    sampling: &Sampling,
) -> Result<Reply> {
    STOP.store(false, Ordering::Relaxed);
    ANSWERING.store(true, Ordering::Relaxed);
    let mut written = Ok(());
    let reply = conversation.reply(text, n, sampling, |text| {
        if !text.is_empty() && written.is_ok() {
            written = output::print(text);
        }
        match written.is_err() || STOP.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    ANSWERING.store(false, Ordering::Relaxed);
    written?;
    let reply = reply?;
    output::print("\n")?;
    Ok(reply)
}

fn figures(reply: &Reply) -> String {
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    let computed = reply.prompt_tokens - reply.reused_tokens;
    let ended = match reply.ended {
        Ended::Turn => "",
        Ended::Length => "; cut at the limit",
        Ended::Stopped => "; stopped",
    };
    let guesses = guesses(reply.speculated).map_or(String::new(), |guesses| format!("; {guesses}"));
    format!(
        "[{computed} of {} prompt tokens computed, {:.1} tokens/s; {} tokens, {:.1} tokens/s{guesses}{ended}]",
        reply.prompt_tokens,
        rate(computed, reply.prefill.as_secs_f64()),
        reply.tokens,
        rate(reply.tokens.saturating_sub(1), reply.decode.as_secs_f64()),
    )
}
