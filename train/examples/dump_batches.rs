//! Writes what a recipe trains on, for another program to train on the same:
//!
//!     dump_batches RECIPE.toml OUT [KEY=VALUE]…
//!
//! `OUT/initial/` holds the weights of step 0 as a Hugging Face directory. `OUT/train.i32` holds
//! the batches in their order, each as its inputs and then its targets, `[rows, seq_len]`
//! little-endian 32-bit integers, -1 where no loss is taken; `OUT/validation.i32` the validation
//! rows in the same form, as one batch. `OUT/shape.json` has the sizes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use retort_data::{Batch, Data, Rank};
use retort_tokenizer::Tokenizer;
use retort_train::{Recipe, initial_model};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: dump_batches RECIPE.toml OUT [KEY=VALUE]…";
    let recipe = PathBuf::from(arguments.next().ok_or(usage)?);
    let out = PathBuf::from(arguments.next().ok_or(usage)?);
    let recipe = Recipe::load::<toml::Table>(&recipe, &arguments.collect::<Vec<_>>())?;

    let device = retort_train::device("cpu")?;
    let (config, model) = initial_model(&recipe, &device)?;
    let initial = out.join("initial");
    fs::create_dir_all(&initial)?;
    retort_model::save(&initial, &config, &model)?;

    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None)?);
    let data = Data::open(&recipe.data, &tokenizer, None, None, &|_| {})?;
    let t = &recipe.train;
    let mut batches = data.batches(t.batch_size, Rank::default(), None)?;
    let mut train = BufWriter::new(File::create(out.join("train.i32"))?);
    for _ in 0..t.steps * t.accumulate as u64 {
        write(&mut train, &batches.next_batch()?)?;
    }
    train.flush()?;
    let rows = data.validation();
    let mut validation = BufWriter::new(File::create(out.join("validation.i32"))?);
    write(&mut validation, &rows.batch(0..rows.len()))?;
    validation.flush()?;
    shape(&out, &recipe, rows.len())
}

fn write(file: &mut impl Write, batch: &Batch) -> std::io::Result<()> {
    for id in batch.inputs.iter().chain(&batch.targets) {
        file.write_all(&id.to_le_bytes())?;
    }
    Ok(())
}

fn shape(out: &Path, recipe: &Recipe, validation_rows: usize) -> Result<(), Box<dyn Error>> {
    let shape = json!({
        "batch_size": recipe.train.batch_size,
        "seq_len": recipe.data.seq_len,
        "validation_rows": validation_rows,
        "train": recipe.train,
    });
    fs::write(out.join("shape.json"), serde_json::to_vec_pretty(&shape)?)?;
    Ok(())
}
