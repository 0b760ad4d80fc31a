//! `retort tokenizer`: trains a tokenizer on shards, or converts one of another form.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use retort_data::{Shards, SourceOptions};
use retort_tokenizer::Tokenizer;

use crate::progress;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a byte-level BPE tokenizer on parquet shards
    #[command(
        after_help = "Example:\n  retort tokenizer train --data shards/ --vocab-size 8192 --out tokenizer/"
    )]
    Train {
        /// Parquet or JSON-lines files, a glob, a directory, or hf://OWNER/NAME/CONFIG@REVISION
        #[arg(long, value_name = "SOURCE")]
        data: String,
        /// Number of tokens, the 256 bytes and <|endoftext|> included
        #[arg(long, value_name = "N")]
        vocab_size: usize,
        /// Directory for tokenizer.json and tokenizer_config.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Convert a Qwen v1 or Llama 2 tokenizer to a tokenizer.json that gives the same ids
    #[command(
        after_help = "Examples:\n  retort tokenizer convert qwen.tiktoken --out tokenizer/\n  retort tokenizer convert Llama-2-7b/tokenizer.model --out tokenizer/"
    )]
    Convert {
        /// qwen.tiktoken, a SentencePiece BPE tokenizer.model, or a directory that holds one
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Directory for tokenizer.json and tokenizer_config.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Train {
            data,
            vocab_size,
            out,
        } => {
            let shards = Shards::resolve(data, &SourceOptions::default())?;
            let (bar, show) = progress::documents();
            let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), *vocab_size, &show)?;
            bar.finish_and_clear();
            save(&tokenizer, out)
        }
        Command::Convert { file, out } => save(&retort_tokenizer::convert(file)?, out),
    }
}

fn save(tokenizer: &Tokenizer, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let file = tokenizer.save(out)?;
    eprintln!("{} tokens in {}", tokenizer.vocab_size(), file.display());
    Ok(())
}
