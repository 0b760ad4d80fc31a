//! `retort-edge quantize`: a model in fewer bits.

use std::path::PathBuf;

use anyhow::Result;
use retort_convert::Progress;
use retort_convert::quantize::{TYPES, Texts, quantize};
use retort_format::{Error, GgmlType};

use crate::output;
use crate::quantize_options::QuantizeOptions;
use crate::runtime::Runtime;

/// Write a model in fewer bits
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort-edge quantize model-f32.gguf --out model-q4_0.gguf --calibrate text.txt\n  \
    retort-edge quantize model-f32.gguf --out model.gguf --tensor 'blk.*.ffn_down.weight=q8_0'\n  \
    retort-edge quantize model-f32.gguf --out model.gguf --bits-per-weight 5 --rotate values"
)]
pub struct Args {
    /// The model: a GGUF file, best of a float type, or a Hugging Face directory
    #[arg(value_name = "PARENT")]
    parent: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// How matrices are stored: q4_0, q4_1, q8_0, bf16, f16 or f32
    #[arg(long, value_name = "TYPE", default_value = "q4_0", value_parser = parse_type)]
    quant: GgmlType,
    /// Round so that the layers' answers to this text change least (a UTF-8 file like what the model will read)
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    #[command(flatten)]
    options: QuantizeOptions,
    #[command(flatten)]
    runtime: Runtime,
}

fn parse_type(name: &str) -> Result<GgmlType, String> {
    let named = TYPES
        .into_iter()
        .find(|ty| ty.name().eq_ignore_ascii_case(name));
    named.ok_or_else(|| "it is one of q4_0, q4_1, q8_0, bf16, f16, f32".into())
}

/// Writes the file and prints its name.
pub fn run(args: Args) -> Result<()> {
    let recipe = args.options.recipe(args.quant)?;
    let text = match &args.calibrate {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            // a file cut at a byte count may end inside a character
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        None => None,
    };
    let mut documents = text.into_iter().map(Ok);
    let texts = args.calibrate.is_some().then_some(Texts {
        documents: &mut documents,
        tokens: args.options.tokens(),
        settings: args.options.calibration(),
    });
    let bar = output::progress_bar("quantize");
    let show = |progress| match progress {
        Progress::Notice(text) => bar.suspend(|| eprintln!("note: {text}")),
        Progress::Weights { done, total } => {
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let threads = args.runtime.settings()?;
    let written = quantize(&args.parent, &args.out, &recipe, texts, threads, show)?;
    bar.finish_and_clear();
    eprintln!(
        "{} parameters, {} bytes, {:.3} bits a weight",
        written.parameters, written.bytes, written.bits_per_weight
    );
    output::print(&format!("{}\n", args.out.display()))
}
