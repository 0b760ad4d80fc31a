//! Peak resident memory of a forward pass, or of one with its gradients, at a sequence
//! length: `cargo run --release -p retort-model --example attention_memory -- LENGTH forward|backward`.
//! Two layers of width 512 with 8 heads, so that the scores outweigh everything else.

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::ModelConfig;
use retort_model::{Decoder, RandomInit};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (length, backward) = match args.as_slice() {
        [length, mode] => (
            length.parse::<usize>().expect("a length"),
            mode == "backward",
        ),
        _ => {
            eprintln!("usage: attention_memory LENGTH forward|backward");
            std::process::exit(2);
        }
    };
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 256, "hidden_size": 512, "intermediate_size": 1024,
        "num_hidden_layers": 2, "num_attention_heads": 8,
    }))
    .expect("a config");
    let config = config.resolve().expect("that fits together");
    let device = if backward {
        Device::flex().autodiff()
    } else {
        Device::flex()
    };
    let model = Decoder::build(&config, &mut RandomInit::new(&config, 1), &device);
    let ids: Vec<i32> = (0..length).map(|i| (i * 31 % 256) as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, length]), &device);
    let start = std::time::Instant::now();
    let loss = model.forward(ids).square().mean();
    if backward {
        drop(loss.backward());
    } else {
        let _: f32 = loss.into_scalar();
    }
    let seconds = start.elapsed().as_secs_f64();
    let peak = retort_files::memory::peak_resident_bytes().unwrap_or(0) / 1024;
    println!("{length} {seconds:.2} s VmHWM:\t{peak} kB");
}
