//! `retort export`: a checkpoint becomes one GGUF file.

use std::path::PathBuf;

use clap::ValueEnum;
use retort_infer::GgmlType;
use retort_infer::export::{Progress, export_as};
use retort_infer::pack;

use crate::progress;

/// Turn a checkpoint into a GGUF file that retort-edge and llama.cpp run
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort export runs/web-4m --out web-4m.gguf --quant q4_0\n  \
    retort export runs/web-4m --out web-4m.packed.gguf --layout rows16"
)]
pub struct Args {
    /// A Hugging Face directory, or a run directory (its newest checkpoint)
    checkpoint: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "q4_0")]
    quant: Quant,
    /// How the weights lie in the file
    #[arg(long, value_enum, default_value = "plain")]
    layout: Layout,
}

/// The layouts `retort export` writes.
#[derive(Clone, Copy, ValueEnum)]
pub enum Layout {
    /// Row after row: llama.cpp runs it, and retort-edge does
    Plain,
    /// In panels of 16 rows, as `retort-edge pack` reorders them: only retort-edge runs it, faster
    Rows16,
}

impl From<Layout> for pack::Layout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Plain => Self::Plain,
            Layout::Rows16 => Self::Rows16,
        }
    }
}

/// The types `retort export` writes.
#[derive(Clone, Copy, ValueEnum)]
pub enum Quant {
    /// 4 bits, one scale for 32 weights; embeddings and head in q8_0
    #[value(name = "q4_0")]
    Q4_0,
    /// 8 bits, one scale for 32 weights
    #[value(name = "q8_0")]
    Q8_0,
    /// Half precision
    F16,
    /// The upper half of full precision: what most checkpoints are published in, copied exactly
    Bf16,
    /// Full precision
    F32,
}

impl From<Quant> for GgmlType {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::Q4_0 => Self::Q4_0,
            Quant::Q8_0 => Self::Q8_0,
            Quant::F16 => Self::F16,
            Quant::Bf16 => Self::BF16,
            Quant::F32 => Self::F32,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let checkpoint = retort_train::latest(&args.checkpoint)?.unwrap_or(args.checkpoint.clone());
    let bar = progress::bar("export", 0);
    let show = |progress| match progress {
        Progress::Notice(text) => bar.suspend(|| eprintln!("note: {text}")),
        Progress::Weights { done, total } => {
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let (quant, layout) = (args.quant.into(), args.layout.into());
    let exported = export_as(&checkpoint, &args.out, quant, layout, show)?;
    bar.finish_and_clear();
    eprintln!(
        "{} parameters in {} tensors, {} bytes",
        exported.parameters, exported.tensors, exported.bytes
    );
    println!("{}", args.out.display());
    Ok(())
}
