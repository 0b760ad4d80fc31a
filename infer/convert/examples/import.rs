//! Imports a GGUF file into a Hugging Face directory.
//!
//!     cargo run --release -p retort-convert --example import -- model.gguf DIR [f32|f16|bf16]

use std::path::Path;

use anyhow::{Context, Result};
use retort_convert::import::{ImportSettings, import};
use retort_format::GgmlType;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: import FILE.gguf DIR [DTYPE]");
    let (file, out) = (next()?, next()?);
    let dtype = match next().ok().map(|name| name.to_uppercase()) {
        Some(name) => {
            let ty = GgmlType::ALL.into_iter().find(|ty| ty.name() == name);
            Some(ty.context("DTYPE is one of f32, f16, bf16")?)
        }
        None => None,
    };
    let settings = ImportSettings {
        dtype,
        ..ImportSettings::default()
    };
    let imported = import(Path::new(&file), Path::new(&out), &settings, |_| {})?;
    eprintln!("{imported:?}");
    Ok(())
}
