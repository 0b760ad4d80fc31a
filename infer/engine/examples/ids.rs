//! Prints the token ids of texts, one JSON array a line, for comparison with other tokenizers.
//!
//! In: a GGUF file, a file of texts, the line that separates and ends them, and `special` if control
//! tokens written out in a text are to be recognised.
//!
//!     cargo run --release -p retort-engine --example ids -- model.gguf texts.inp __ggml_vocab_test__

use std::path::Path;

use anyhow::{Context, Result};
use retort_engine::tokenizer::Tokenizer;
use retort_format::gguf::Gguf;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: ids FILE.gguf TEXTS SEPARATOR");
    let (file, texts, separator) = (next()?, next()?, next()?);
    let special = next().is_ok_and(|word| word == "special");
    let tokenizer = Tokenizer::from_gguf(Gguf::open(Path::new(&file))?.metadata())?;
    let texts = std::fs::read_to_string(&texts).context(texts)?;
    let separator = format!("\n{separator}\n");
    let texts = texts.strip_suffix(&separator).unwrap_or(&texts);
    for text in texts.split(&separator) {
        let ids = tokenizer
            .encode(text, special)
            .map_err(anyhow::Error::msg)?;
        println!("{}", serde_json::json!(ids));
    }
    Ok(())
}
