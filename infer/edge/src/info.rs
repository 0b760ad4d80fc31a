//! `retort-edge info`: what a file holds and what it takes to run it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use retort_engine::Model;
use retort_engine::decoder::KvType;
use retort_files::memory::available_bytes;
use retort_format::gguf::Gguf;
use retort_format::gguf::panels::is_in_panels;

use crate::output;

/// Show metadata, tensors and memory of a model
#[derive(clap::Args)]
#[command(after_help = "Example:\n  retort-edge info model.gguf --ctx 4096")]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// Positions to compute the memory for [default: the model's own context]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
}

/// Prints the listing. A file that is well formed but cannot be run is listed all the same, with
/// the reason.
pub fn run(args: Args) -> Result<()> {
    let gguf = Gguf::open(&args.file)?;
    let mut text = String::new();
    for (key, value) in gguf.metadata().iter() {
        writeln!(text, "{key} = {value}")?;
    }
    let mut types: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let name = match is_in_panels(tensor.name) {
            true => format!("{} rows16", tensor.ty),
            false => tensor.ty.to_string(),
        };
        let entry = types.entry(name).or_default();
        entry.0 += 1;
        entry.1 += tensor.n_elements();
        entry.2 += tensor.data.len() as u64;
    }
    writeln!(text)?;
    for (name, (tensors, weights, bytes)) in &types {
        let size = output::bytes(*bytes);
        writeln!(
            text,
            "{name:11} {tensors:5} tensors {weights:13} weights {size:>12}"
        )?;
    }
    let parameters: u64 = types.values().map(|counts| counts.1).sum();
    writeln!(text, "\nparameters  {parameters}")?;
    writeln!(text, "file        {}", output::bytes(gguf.file_size()))?;
    writeln!(text, "kernels     {}", retort_kernels::active()?.name)?;
    match Model::open(&args.file) {
        Ok(model) => {
            let config = model.engine.config();
            let context = args.ctx.unwrap_or(config.context_length);
            let size = |n: Option<u64>| n.map_or("too much".into(), output::bytes);
            for (name, kv) in [("f16", KvType::F16), ("q8", KvType::Q8), ("q4", KvType::Q4)] {
                let cache = config.kv_cache_bytes(context, kv).map(|n| n as u64);
                let total = cache.and_then(|n| n.checked_add(gguf.file_size()));
                writeln!(
                    text,
                    "memory      {} at {context} positions, {} of it keys and values in {name}",
                    size(total),
                    size(cache)
                )?;
            }
            let free = available_bytes();
            writeln!(
                text,
                "free        {}",
                free.map_or("unknown".into(), output::bytes)
            )?;
        }
        Err(error) => writeln!(text, "cannot run  {error}")?,
    }
    output::print(&text)
}
