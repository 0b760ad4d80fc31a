//! `retort import`: converts a GGUF file to a Hugging Face directory.

use std::path::PathBuf;

use clap::ValueEnum;
use retort_convert::import::ImportSettings;
use retort_format::GgmlType;

use crate::progress;

/// Turn a GGUF file into a Hugging Face directory, to train or distil from
#[derive(clap::Args)]
#[command(
    after_help = "Reads F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K weights of the \
    architectures llama, qwen, qwen2 and qwen3.\n\n\
    Example:\n  retort import SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2"
)]
pub struct Args {
    /// The file to read
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// The directory to write; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The type of all weights [default: F32, F16 and BF16 stay as they are, others become f32]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Most bytes of a file of weights
    #[arg(long, value_name = "BYTES", default_value_t = ImportSettings::default().max_shard_bytes)]
    max_shard_bytes: u64,
}

/// The types `retort import` writes.
#[derive(Clone, Copy, ValueEnum)]
pub enum Dtype {
    /// Full precision
    F32,
    /// Half precision
    F16,
    /// The upper half of full precision
    Bf16,
}

impl From<Dtype> for GgmlType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = ImportSettings {
        dtype: args.dtype.map(Into::into),
        max_shard_bytes: args.max_shard_bytes,
    };
    let (bar, show) = progress::conversion("import");
    let imported = retort_convert::import::import(&args.file, &args.out, &settings, show)?;
    bar.finish_and_clear();
    eprintln!(
        "{} parameters in {} tensors and {} files, {} bytes",
        imported.parameters, imported.tensors, imported.shards, imported.bytes
    );
    println!("{}", args.out.display());
    Ok(())
}
