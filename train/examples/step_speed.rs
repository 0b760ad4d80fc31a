//! Training steps a second on random ids, without data or checkpoints, for the comparison
//! with PyTorch in `experiments/checks/train_speed.py`:
//!
//! `cargo run --release --example step_speed -p retort-train -- small|medium STEPS [DEVICE [SETTING=VALUE…]]`, a setting being one of a
//! recipe's `[train]`, such as `activation_checkpointing=true`
//!
//! Prints one line of JSON: the median step's seconds and its parts, tokens a second,
//! FLOPs a second (6 a parameter and token without the embedding, 12 · layers · width ·
//! length for attention, as PaLM's appendix B counts), peak resident bytes and the losses.

use std::time::Instant;

use retort_data::{Batch, BatchSource};
use retort_format::ModelConfig;
use retort_model::{Decoder, RandomInit};
use retort_test_kit::Random;
use retort_train::{
    CrossEntropy, TrainConfig, device, gradients, keep_freed_memory, learning_rates, optimizer,
    param_groups,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: step_speed small|medium STEPS [DEVICE [SETTING=VALUE…]]";
    let (shape, steps) = match args.as_slice() {
        [shape, steps, ..] => (shape.as_str(), steps.parse::<usize>().expect(usage)),
        _ => panic!("{usage}"),
    };
    let name = args.get(2).map_or("cpu", String::as_str);
    keep_freed_memory();
    let device = device(name).expect("a device").autodiff();
    let (vocabulary, width, layers, heads, inner, length, rows) = match shape {
        "small" => (8192, 256, 6, 4, 688, 256, 8),
        "medium" => (32000, 512, 8, 8, 1376, 512, 4),
        _ => panic!("{usage}"),
    };
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "max_position_embeddings": length, "tie_word_embeddings": false,
    }))
    .expect("a config");
    let config = config.resolve().expect("sizes that fit together");
    let recipe: TrainConfig = toml::from_str(&format!(
        "steps = {steps}\nbatch_size = {rows}\nlr = 3e-4\nbeta2 = 0.999\n\
         weight_decay = 0.01\ngrad_clip = 0\n{}",
        args.get(3..).unwrap_or_default().join("\n")
    ))
    .expect("a recipe");
    let mut model = Decoder::build(&config, &mut RandomInit::new(&config, 1), &device)
        .with_compute(recipe.precision);
    let param_groups = param_groups(&recipe, model.named_parameters()).expect("no groups");
    let mut optimizer = optimizer(&recipe, &param_groups);
    let ids = ids(rows * length, vocabulary);
    let mut targets = ids[1..].to_vec();
    targets.push(ids[0]);
    let batch = Batch {
        rows,
        seq_len: length,
        inputs: ids,
        targets,
        documents: vec![0; rows * length],
        positions: (0..rows * length).map(|i| (i % length) as i32).collect(),
        source: BatchSource::Synthetic,
    };
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let start = Instant::now();
        let found =
            gradients(&model, &CrossEntropy, (&[&batch], 0), &recipe, &device).expect("a loss");
        losses.push(found.loss);
        let backward = start.elapsed().as_secs_f64();
        model = optimizer.step(learning_rates(recipe.lr, &param_groups), model, found.grads);
        device.sync().expect("a device that answers");
        let all = start.elapsed().as_secs_f64();
        times.push([all, backward, all - backward]);
    }
    // The first step finds the memory.
    times.remove(0);
    times.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [all, backward, update] = times[times.len() / 2];
    let tokens = (rows * length) as f64;
    let matrices = config.parameters() - (vocabulary * width) as u64;
    let flops = 6.0 * matrices as f64 + (12 * layers * width * length) as f64;
    let figures = serde_json::json!({
        "shape": shape, "device": name, "step_seconds": all,
        "gradient_seconds": backward, "update_seconds": update,
        "tokens_per_second": tokens / all, "flops_per_second": flops * tokens / all,
        "peak_rss_bytes": retort_files::memory::peak_resident_bytes(), "losses": losses,
    });
    println!("{figures}");
}

/// The ids that `train_speed.py` also uses: a linear congruential generator's upper bits.
fn ids(n: usize, vocabulary: usize) -> Vec<i32> {
    let mut random = Random::new(12345);
    (0..n).map(|_| random.below(vocabulary) as i32).collect()
}
