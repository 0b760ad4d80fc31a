//! Writes a checkpoint of a well-known model's shape with random weights, a tensor at a
//! time, so that large files can be measured without being downloaded or held in memory:
//! `cargo run --release -p retort-model --example write_shape -- --like qwen-7b --dtype bf16 --out DIR [--seed N]`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use half::{bf16, f16};
use rand::distr::Distribution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use retort_format::checkpoint::{MAX_SHARD_BYTES, TensorHeader, write_config, write_weights};
use retort_format::{Kind, ModelConfig, Precision, TensorSpec, tensors};
use serde_json::json;

fn shape(name: &str) -> Option<ModelConfig> {
    let value = match name {
        "qwen-7b" => json!({
            "model_type": "qwen", "vocab_size": 151936, "hidden_size": 4096,
            "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
            "max_position_embeddings": 32768, "seq_length": 8192, "use_dynamic_ntk": true,
            "use_logn_attn": true, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
            "eos_token_id": 151643,
        }),
        "qwen2.5-7b" => json!({
            "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584,
            "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
            "num_key_value_heads": 4, "max_position_embeddings": 131072, "rope_theta": 1e6,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "eos_token_id": 151643,
        }),
        "qwen2.5-0.5b" => json!({
            "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
            "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "max_position_embeddings": 32768, "rope_theta": 1e6,
            "rms_norm_eps": 1e-6, "eos_token_id": 151643,
        }),
        "llama-2-7b" => json!({
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32,
            "max_position_embeddings": 4096, "tie_word_embeddings": false,
            "bos_token_id": 1, "eos_token_id": 2,
        }),
        "smollm2-135m" => json!({
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "max_position_embeddings": 8192, "rope_theta": 1e5, "bos_token_id": 0,
            "eos_token_id": 0,
        }),
        _ => return None,
    };
    let config: ModelConfig = serde_json::from_value(value).expect("the shapes above are configs");
    Some(config.resolve().expect("and fit together"))
}

/// Bytes of `spec`: weights drawn from 4096 normal ones of the standard deviation that a
/// trained matrix has about, the norms at one, in an order that only the name and the seed
/// decide.
fn bytes(spec: &TensorSpec, precision: Precision, seed: u64) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    (seed, &spec.name).hash(&mut hasher);
    let mut rng = ChaCha8Rng::seed_from_u64(hasher.finish());
    let table: Vec<[u8; 4]> = (0..4096)
        .map(|_| {
            let normal: f32 = StandardNormal.sample(&mut rng);
            let value = match spec.kind {
                Kind::Norm => 1.0,
                _ => 0.02 * normal,
            };
            let mut bytes = [0; 4];
            match precision {
                Precision::F32 => bytes = value.to_le_bytes(),
                Precision::F16 => bytes[..2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                Precision::Bf16 => bytes[..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            }
            bytes
        })
        .collect();
    let n = spec.elements();
    let mut out = Vec::with_capacity(n * precision.size());
    let (mut bits, mut left) = (0u64, 0);
    for _ in 0..n {
        if left == 0 {
            (bits, left) = (rng.random(), 5);
        }
        out.extend_from_slice(&table[(bits & 4095) as usize][..precision.size()]);
        (bits, left) = (bits >> 12, left - 1);
    }
    out
}

fn main() {
    if let Err(message) = run() {
        eprintln!("error: {message}");
        std::process::exit(2);
    }
}

fn run() -> Result<(), String> {
    let (mut like, mut dtype, mut out, mut seed) = (None, Precision::Bf16, None, 0u64);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--like" => {
                like = Some(shape(&value).ok_or(format!("--like {value}: not a known shape"))?)
            }
            "--dtype" => {
                dtype = match value.as_str() {
                    "f32" => Precision::F32,
                    "f16" => Precision::F16,
                    "bf16" => Precision::Bf16,
                    _ => return Err(format!("--dtype {value}: f32, f16 or bf16")),
                }
            }
            "--out" => out = Some(PathBuf::from(value)),
            "--seed" => seed = value.parse().map_err(|e| format!("--seed {value}: {e}"))?,
            _ => {
                return Err(format!(
                    "{flag}: --like, --dtype, --out and --seed are known"
                ));
            }
        }
    }
    let config = like.ok_or("--like qwen-7b|qwen2.5-7b|qwen2.5-0.5b|llama-2-7b|smollm2-135m")?;
    let out = out.ok_or("--out DIR is missing")?;
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let specs = tensors(&config);
    let headers = TensorHeader::all(&specs, dtype);
    write_weights(&out, &headers, MAX_SHARD_BYTES, |i, sink| {
        sink.write(&bytes(&specs[i], dtype, seed))
    })
    .and_then(|_| write_config(&out, &config, dtype))
    .map_err(|e| e.to_string())?;
    println!("{} parameters", config.parameters());
    Ok(())
}
