//! A made-up model of a few thousand random weights as a Hugging Face directory and as an F32 GGUF
//! of it, with a tokenizer trained on generated stories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retort_data::{Shards, SourceOptions, stories};
use retort_format::checkpoint::{TensorHeader, write_config, write_weights};
use retort_format::{GgmlType, Kind, ModelConfig, Precision, tensors};

/// Positions of the model's context.
pub const CONTEXT: usize = 64;

/// Writes the model into `dir`; answers the directory and the GGUF.
pub fn model(dir: &Path) -> (PathBuf, PathBuf) {
    let corpus = dir.join("corpus");
    stories::write_parquet(&corpus, &stories::generate(1, 200), 1).unwrap();
    let shards = Shards::resolve(corpus.to_str().unwrap(), &SourceOptions::default()).unwrap();
    let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), 320, &|_| {}).unwrap();
    let hf = dir.join("model");
    fs::create_dir_all(&hf).unwrap();
    tokenizer.save(&hf).unwrap();
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": tokenizer.eot(),
    }))
    .unwrap();
    let config = config.resolve().unwrap();
    let mut seed = 0;
    let specs = tensors(&config);
    let weights: std::collections::BTreeMap<String, Vec<u8>> = specs
        .iter()
        .map(|spec| {
            seed += 1;
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut one = || match spec.kind {
                Kind::Norm => 1f32,
                _ => rng.random_range(-0.3..0.3),
            };
            let bytes = (0..spec.elements()).flat_map(|_| one().to_le_bytes());
            (spec.name.clone(), bytes.collect())
        })
        .collect();
    let headers = TensorHeader::all(&specs, Precision::F32);
    write_weights(&hf, &headers, u64::MAX, |i, sink| {
        sink.write(&weights[&specs[i].name])
    })
    .unwrap();
    write_config(&hf, &config, Precision::F32).unwrap();
    let gguf = dir.join("model.gguf");
    retort_convert::export::export(&hf, &gguf, GgmlType::F32, |_| {}).unwrap();
    (hf, gguf)
}

/// Questions with four choices of different lengths: JSON lines.
pub fn questions(n: usize) -> String {
    let stories = stories::generate(7, 4 * n);
    let mut lines = String::new();
    for (i, four) in stories.chunks(4).enumerate() {
        let words: Vec<Vec<&str>> = four
            .iter()
            .map(|story| story.text.split(' ').take(9).collect())
            .collect();
        let choices: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(j, w)| w[..1 + (i + 3 * j) % 6].join(" "))
            .collect();
        let line = serde_json::json!({
            "q": words[i % 4].join(" "), "choices": choices, "right": i % 4,
        });
        lines += &format!("{line}\n");
    }
    lines
}
