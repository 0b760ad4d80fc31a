//! `retort-edge pack`: a file reordered so that it runs faster.

use std::path::PathBuf;

use anyhow::Result;
use retort_convert::pack::pack;

use crate::output;

/// Reorder the Q4_0, Q4_1 and Q8_0 weights of a model so that they run faster, without a copy in memory
#[derive(clap::Args)]
#[command(
    after_help = "The packed file has the same size and gives the same answers; only retort-edge reads it.\n\n\
    Example:\n  retort-edge pack model.gguf --out model.packed.gguf"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
}

/// Writes the packed file and prints its name.
pub fn run(args: Args) -> Result<()> {
    let bar = output::progress_bar("pack");
    let packed = pack(&args.file, &args.out, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{} matrices in panels of 16 rows, {} tensors as they were",
        packed.matrices, packed.others
    );
    output::print(&format!("{}\n", args.out.display()))
}
