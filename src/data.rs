//! `retort data`: inspects a source, or tokenizes and packs it once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use retort_data::{Inspection, ROWS_A_FILE, Shards, SourceOptions};
use retort_distill::TeacherConfig;
use retort_tokenizer::Tokenizer;
use retort_train::Recipe;

use crate::progress;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show schema, rows, bytes and, with a tokenizer, tokens and tokens per second
    #[command(
        after_help = "Examples:\n  retort data inspect 'c4/*.parquet' --tokenizer tokenizer/tokenizer.json\n  \
        retort data inspect hf://allenai/c4/en --documents 10000"
    )]
    Inspect {
        /// Parquet or JSON-lines files, a glob, a directory, or hf://OWNER/NAME/CONFIG@REVISION
        source: String,
        /// Count tokens with this tokenizer.json (or the directory that holds it)
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Read no more than this many documents
        #[arg(long, value_name = "N")]
        documents: Option<u64>,
        /// The split of a hub dataset
        #[arg(long, default_value = "train")]
        split: String,
        /// Print the numbers as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tokenize and pack a recipe's data once, for memory-mapped reading
    #[command(
        after_help = "Example:\n  retort data pack experiments/recipes/web-4m.toml --out packed/\n  \
        retort train experiments/recipes/web-4m.toml --set data.source=packed\n\n\
        Run it again after an interruption: it resumes after the last complete file."
    )]
    Pack {
        /// The recipe whose data is packed
        recipe: PathBuf,
        /// Override a key of the recipe (may be repeated)
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Directory for the packed rows
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Rows in a file
        #[arg(long, value_name = "N", default_value_t = ROWS_A_FILE)]
        rows_per_file: usize,
        /// Print the numbers as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Inspect {
            source,
            tokenizer,
            documents,
            split,
            json,
        } => inspect(source, tokenizer.as_deref(), *documents, split, *json),
        Command::Pack {
            recipe,
            set,
            out,
            rows_per_file,
            json,
        } => pack(
            &Recipe::load::<TeacherConfig>(recipe, set)?,
            out,
            *rows_per_file,
            *json,
        ),
    }
}

fn inspect(
    source: &str,
    tokenizer: Option<&Path>,
    documents: Option<u64>,
    split: &str,
    json: bool,
) -> anyhow::Result<()> {
    if documents == Some(0) {
        bail!("--documents is 0: leave it out to read all documents");
    }
    let tokenizer = tokenizer
        .map(|path| Tokenizer::from_file(path, None))
        .transpose()?;
    let options = SourceOptions {
        split: split.to_owned(),
        ..SourceOptions::default()
    };
    let shards = Shards::resolve(source, &options)?;
    let (bar, show) = progress::documents();
    let most = documents.unwrap_or(u64::MAX);
    let inspection = retort_data::inspect(&shards, tokenizer.as_ref(), most, &show)?;
    bar.finish_and_clear();
    if json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print(&inspection);
    }
    Ok(())
}

fn pack(recipe: &Recipe, out: &Path, rows_per_file: usize, json: bool) -> anyhow::Result<()> {
    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None)?);
    let (bar, show) = progress::documents();
    let report = retort_data::pack(&recipe.data, &tokenizer, out, rows_per_file, &show)?;
    bar.finish_and_clear();
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{} rows of {} and {} for validation: {}",
            report.rows, report.seq_len, report.validation_rows, report.stats
        );
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
        let form = match shard.rows {
            Some(rows) => format!(
                "{rows} rows in {} row groups; {}",
                shard.row_groups,
                columns.join(", ")
            ),
            None => "JSON lines".to_owned(),
        };
        println!("{}: {} bytes, {form}", shard.name, shard.file_bytes);
    }
    let unread = inspection.shards_in_all - inspection.shards.len();
    if unread > 0 {
        println!("{unread} more shards, not read");
    }
    println!(
        "{} documents, {} bytes of text",
        inspection.documents, inspection.bytes
    );
    if let (Some(tokens), Some(rate)) = (inspection.tokens, inspection.tokens_per_second) {
        println!("{tokens} tokens, {rate:.0} tokens/s");
    }
}
