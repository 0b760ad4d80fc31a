//! Prints a checkpoint's logits as JSON, for comparison with other readers of the format:
//! `cargo run --release -p retort-model --example checkpoint_logits -- DIRECTORY 1,2,3`.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, directory, ids] = args.as_slice() else {
        eprintln!("usage: checkpoint_logits DIRECTORY ID,ID,…");
        std::process::exit(2);
    };
    let ids: Vec<i32> = ids
        .split(',')
        .map(|id| id.trim().parse().expect("ids are integers"))
        .collect();
    let device = Device::flex();
    let (_, model) = match retort_model::load(Path::new(directory), &device) {
        Ok(loaded) => loaded,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1);
        }
    };
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
}
