//! A Llama of a few thousand random weights as a Hugging Face directory.

use std::path::Path;

use retort_format::checkpoint::{TensorHeader, write_config, write_weights};
use retort_format::{Kind, ModelConfig, Precision, tensors};
use retort_tokenizer::Tokenizer;

use crate::{Random, write_corpus, write_tokenizer};

/// Positions of the model's context.
pub const CONTEXT: usize = 64;

/// Writes a corpus into `dir/corpus`, and a model with its tokenizer into `dir/model`.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_checkpoint(dir: &Path) -> Tokenizer {
    let (corpus, model) = (dir.join("corpus"), dir.join("model"));
    write_corpus(&corpus, 200, 1);
    let tokenizer = write_tokenizer(&model, &corpus, 320);
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
    let specs = tensors(&config);
    let headers = TensorHeader::all(&specs, Precision::F32);
    write_weights(&model, &headers, u64::MAX, |i, sink| {
        let mut random = Random::named(&specs[i].name);
        let mut weight = || match specs[i].kind {
            Kind::Norm => 1f32,
            _ => 0.3 * random.f32(),
        };
        let values = (0..specs[i].elements()).flat_map(|_| weight().to_le_bytes());
        sink.write(&values.collect::<Vec<u8>>())
    })
    .unwrap();
    write_config(&model, &config, Precision::F32).unwrap();
    tokenizer
}
