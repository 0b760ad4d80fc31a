//! `retort export`: converts a checkpoint to a GGUF file.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use retort_convert::quantize::{Texts, quantize};
use retort_data::{Shards, SourceOptions};
use retort_edge::QuantizeOptions;
use retort_engine::decoder::{EngineSettings, KvType};
use retort_format::GgmlType;
use retort_format::gguf::panels;

use crate::progress;

/// Turn a checkpoint into a GGUF file that retort-edge and llama.cpp run
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort export runs/web-4m --out web-4m.gguf --quant q4_0\n  \
    retort export runs/web-4m --out web-4m.packed.gguf --layout rows16\n  \
    retort export runs/web-4m --out web-4m.gguf --calibrate 'c4/*.parquet'"
)]
pub struct Args {
    /// A Hugging Face directory, or a run directory (its newest checkpoint)
    checkpoint: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// The type of the weights
    #[arg(long, value_enum, default_value = "q4_0")]
    quant: Quant,
    /// The layout of the weights in the file
    #[arg(long, value_enum, default_value = "plain")]
    layout: Layout,
    /// Round the weights so that the layers' outputs on these texts change least: parquet or JSON-lines files, a
    /// glob, a directory, or hf://OWNER/NAME/CONFIG@REVISION
    #[arg(long, value_name = "SOURCE")]
    calibrate: Option<String>,
    #[command(flatten)]
    options: QuantizeOptions,
}

/// The layouts `retort export` writes.
#[derive(Clone, Copy, ValueEnum)]
pub enum Layout {
    /// Row after row: llama.cpp and retort-edge run it
    Plain,
    /// In panels of 16 rows, as `retort-edge pack` reorders them: only retort-edge runs it, faster
    #[value(name = "rows16")]
    Rows16,
}

impl From<Layout> for panels::Layout {
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
    let recipe = args.options.recipe(args.quant.into())?;
    let recipe = recipe.with_layout(args.layout.into());
    let mut documents = match &args.calibrate {
        Some(source) => {
            let shards = Arc::new(Shards::resolve(source, &SourceOptions::default())?);
            let texts = retort_data::documents(&shards);
            Some(texts.map(|text| text.map_err(|e| retort_format::Error::Argument(e.to_string()))))
        }
        None => None,
    };
    let texts = documents.as_mut().map(|documents| Texts {
        documents,
        tokens: args.options.tokens(),
        settings: args.options.calibration(),
    });
    let (bar, show) = progress::conversion("export");
    let settings = EngineSettings::new(None, false, KvType::F32)?;
    let written = quantize(&checkpoint, &args.out, &recipe, texts, settings, show)?;
    bar.finish_and_clear();
    eprintln!(
        "{} parameters in {} tensors, {} bytes, {:.3} bits a weight",
        written.parameters, written.tensors, written.bytes, written.bits_per_weight
    );
    println!("{}", args.out.display());
    Ok(())
}
