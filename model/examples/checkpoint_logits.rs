//! Prints a checkpoint's logits as JSON, for comparison with other readers of the format:
//! `cargo run --release -p retort-model --example checkpoint_logits -- DIRECTORY 1,2,3 [PRECISION]`.
//! With `--to OTHER` in place of ids it loads DIRECTORY and saves it into OTHER as stored.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::Precision;
use retort_format::checkpoint::stored_precision;
use retort_model::{SaveOptions, load_as, save_as};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        [directory, "--to", other] => convert(Path::new(directory), Path::new(other)),
        [directory, ids] => logits(Path::new(directory), ids, Precision::F32),
        [directory, ids, precision] => {
            let precision = serde_json::from_value((*precision).into());
            logits(
                Path::new(directory),
                ids,
                precision.expect("a PyTorch type"),
            )
        }
        _ => {
            eprintln!("usage: checkpoint_logits DIRECTORY (ID,ID,… [PRECISION] | --to DIRECTORY)");
            std::process::exit(2);
        }
    };
    if let Err(e) = outcome {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}

fn logits(directory: &Path, ids: &str, precision: Precision) -> retort_format::Result<()> {
    let ids: Vec<i32> = ids
        .split(',')
        .map(|id| id.trim().parse().expect("ids are integers"))
        .collect();
    let device = Device::flex();
    let (_, model) = load_as(directory, &device, precision)?;
    let shape = [1, ids.len()];
    let input = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    let logits = model.forward(input);
    let [_, _, vocabulary] = logits.dims();
    let values: Vec<f32> = logits.into_data().try_into_vec().expect("logits are f32");
    let rows: Vec<&[f32]> = values.chunks(vocabulary).collect();
    println!(
        "{}",
        serde_json::to_string(&rows).expect("floats serialize")
    );
    Ok(())
}

fn convert(directory: &Path, other: &Path) -> retort_format::Result<()> {
    let precision = stored_precision(directory)?;
    let (config, model) = load_as(directory, &Device::flex(), precision)?;
    std::fs::create_dir_all(other).expect("the other directory can be made");
    let options = SaveOptions {
        precision,
        source: Some(directory),
        ..SaveOptions::default()
    };
    save_as(other, &config, &model, &options)
}
