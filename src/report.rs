//! `retort report`: a page on training runs and models' results.

use std::path::PathBuf;

/// Write an HTML report with plots and CSV, of run directories and of models' results
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort report runs/web-4m runs/web-distil --out report/\n  \
    retort eval small.gguf --tasks arc_challenge,piqa --data eval --json small.eval.json\n  \
    retort-edge bench small.gguf --json > small.bench.json\n  \
    retort report --figures small.eval.json,small.bench.json,large.eval.json,large.bench.json --out report/"
)]
pub struct Args {
    /// Run directories: the differences of their recipes, and curves
    runs: Vec<PathBuf>,
    /// Files of `retort eval --json` and `retort-edge bench --json`: accuracy against size and time
    #[arg(long, value_delimiter = ',', value_name = "FILE.json,…")]
    figures: Vec<PathBuf>,
    /// Directory for index.html, the SVG plots and the CSV
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    retort_eval::report::write(&args.runs, &args.figures, &args.out)?;
    println!("{}", args.out.join("index.html").display());
    Ok(())
}
