//! Exports a Hugging Face directory to a GGUF file.
//!
//!     cargo run --release -p retort-convert --example export -- DIR model.gguf f32|f16|bf16|q8_0|q4_0

use std::path::Path;

use anyhow::{Context, Result};
use retort_convert::Progress;
use retort_convert::export::export;
use retort_format::GgmlType;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: export DIR FILE.gguf QUANT");
    let (dir, out, quant) = (next()?, next()?, next()?.to_uppercase());
    let quant = GgmlType::ALL.into_iter().find(|ty| ty.name() == quant);
    let quant = quant.context("QUANT is one of f32, f16, bf16, q8_0, q4_0")?;
    let exported = export(Path::new(&dir), Path::new(&out), quant, |progress| {
        if let Progress::Notice(notice) = progress {
            eprintln!("{notice}");
        }
    })?;
    eprintln!("{exported:?}");
    Ok(())
}
