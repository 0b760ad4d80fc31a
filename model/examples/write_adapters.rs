//! Trains adapters on a checkpoint for a few steps, writes them into OUT as PEFT's files and
//! prints the adapted logits as JSON, for comparison with PEFT:
//! `cargo run --release -p retort-model --example write_adapters -- DIRECTORY 1,2,3 OUT TARGET…`.

use std::path::Path;

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_model::{LoraConfig, load, save_adapters};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, ids, out, targets @ ..] = args.as_slice() else {
        eprintln!("usage: write_adapters DIRECTORY ID,ID,… OUT TARGET…");
        std::process::exit(2);
    };
    if let Err(e) = run(Path::new(directory), ids, Path::new(out), targets) {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}

fn run(directory: &Path, ids: &str, out: &Path, targets: &[String]) -> retort_format::Result<()> {
    let ids: Vec<i32> = ids
        .split(',')
        .map(|id| id.trim().parse().expect("ids are integers"))
        .collect();
    let device = Device::flex().autodiff();
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        targets: targets.to_vec(),
    };
    let (_, model) = load(directory, &device)?;
    let mut model = model.with_adapters(&lora, 1)?;
    let shape = [1, ids.len()];
    let input = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..3 {
        let loss = model.forward(input.clone()).square().mean();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.02, model, grads);
    }
    save_adapters(out, &model, &lora, &directory.to_string_lossy())?;
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
