//! `retort data`: what is in a source.

use std::path::PathBuf;

use retort_data::{Inspection, Tokenizer};

use crate::progress;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show schema, rows, bytes and, with a tokenizer, tokens and tokens per second
    #[command(
        after_help = "Example:\n  retort data inspect 'c4/*.parquet' --tokenizer tokenizer/tokenizer.json"
    )]
    Inspect {
        /// A parquet file, a glob or a directory
        source: String,
        /// Count tokens with this tokenizer.json (or the directory that holds it)
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Print the figures as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Inspect {
        source,
        tokenizer,
        json,
    } = command;
    let paths = retort_data::resolve(source)?;
    let tokenizer = tokenizer
        .as_ref()
        .map(|path| Tokenizer::from_file(path, None))
        .transpose()?;
    let (bar, show) = progress::documents("inspect");
    let inspection = retort_data::inspect(&paths, tokenizer.as_ref(), &show)?;
    bar.finish_and_clear();
    if *json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print(&inspection);
    }
    Ok(())
}

fn print(inspection: &Inspection) {
    for shard in &inspection.shards {
        let columns: Vec<String> = shard
            .columns
            .iter()
            .map(|c| format!("{}: {}", c.name, c.kind))
            .collect();
        println!(
            "{}: {} rows in {} row groups, {} bytes; {}",
            shard.path.display(),
            shard.rows,
            shard.row_groups,
            shard.file_bytes,
            columns.join(", ")
        );
    }
    println!(
        "{} documents, {} bytes of text",
        inspection.documents, inspection.bytes
    );
    if let (Some(tokens), Some(rate)) = (inspection.tokens, inspection.tokens_per_second) {
        println!("{tokens} tokens, {rate:.0} tokens/s");
    }
}
