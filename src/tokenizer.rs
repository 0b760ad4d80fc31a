//! `retort tokenizer`: train one on shards.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use retort_data::{Shards, SourceOptions};

use crate::progress;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Train a byte-level BPE tokenizer on parquet shards
    #[command(
        after_help = "Example:\n  retort tokenizer train --data shards/ --vocab-size 8192 --out tokenizer/"
    )]
    Train {
        /// A parquet file, a glob or a directory
        #[arg(long, value_name = "SOURCE")]
        data: String,
        /// Number of tokens, the 256 bytes and <|endoftext|> included
        #[arg(long, value_name = "N")]
        vocab_size: usize,
        /// Directory for tokenizer.json and tokenizer_config.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Train {
        data,
        vocab_size,
        out,
    } = command;
    let shards = Shards::resolve(data, &SourceOptions::default())?;
    let (bar, show) = progress::documents();
    let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), *vocab_size, &show)?;
    bar.finish_and_clear();
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let file = tokenizer.save(out)?;
    eprintln!("{} tokens in {}", tokenizer.vocab_size(), file.display());
    Ok(())
}
