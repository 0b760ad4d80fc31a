//! Prints what the engine computes for a prompt as JSON, for comparison with other engines.
//!
//! In: a GGUF file, a prompt, a number of tokens; out: `tokens` (the prompt's ids), `logits` (one
//! row of [vocab_size] for each of them), `greedy` (the ids that follow), `text` (their text).
//! Keys and values are kept in single precision, so that what is compared is the arithmetic.
//!
//!     cargo run --release -p retort-engine --example logits -- model.gguf "The capital of France is" 64

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use retort_engine::Model;
use retort_engine::decoder::{EngineSettings, KvType};
use retort_engine::sampling::Sampling;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: logits FILE.gguf PROMPT N");
    let (file, prompt, n) = (next()?, next()?, next()?.parse()?);
    let settings = EngineSettings::new(None, false, KvType::F32)?;
    let model = Model::open_with(Path::new(&file), settings)?;
    let tokens = model.prompt(&prompt)?;
    let vocab_size = model.engine.config().vocab_size;
    let mut logits: Vec<Vec<f32>> = Vec::new();
    let mut session = model.engine.session(tokens.len())?;
    session.forward_all(&tokens, 0, |_, rows| {
        logits.extend(rows.chunks_exact(vocab_size).map(<[f32]>::to_vec));
    })?;
    let mut text = String::new();
    let generation = model.generate_from(&tokens, n, &Sampling::greedy(), |piece| {
        text.push_str(piece);
        ControlFlow::Continue(())
    })?;
    let report = serde_json::json!({
        "tokens": tokens,
        "logits": logits,
        "greedy": generation.tokens,
        "text": text,
    });
    println!("{report}");
    Ok(())
}
