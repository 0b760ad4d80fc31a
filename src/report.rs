//! `retort report`: loss curves and throughput of runs, to look at.

use std::path::PathBuf;

/// Write an HTML report with plots and CSV from run directories
#[derive(clap::Args)]
#[command(after_help = "Example:\n  retort report runs/web-4m runs/web-distil --out report/")]
pub struct Args {
    /// Run directories
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Directory for index.html, the SVG plots and the CSV
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    retort_experiments::report::write(&args.runs, &args.out)?;
    println!("{}", args.out.join("index.html").display());
    Ok(())
}
