//! What a teacher takes, from the head of its file, without running it.

use retort_engine::decoder::Config;
use retort_format::ModelConfig;
use retort_format::gguf::Gguf;
use retort_train::{Targets, forward_flops_per_token};

use crate::config::TeacherConfig;
use crate::error::Result;

/// Arithmetic and memory of the teacher of `config` about rows of `seq_len`: none for a cache, as
/// its file or in f32 otherwise. `None` where it is not there.
///
/// # Errors
/// A file that is there and is no teacher.
pub fn takes(config: &TeacherConfig, seq_len: usize) -> Result<Option<Targets>> {
    let place = config.place();
    let gguf = place.extension().is_some_and(|e| e == "gguf");
    if config.cache.is_some() || !place.exists() {
        let nothing = Targets {
            flops_per_token: 0,
            bytes: 0,
        };
        return Ok(place.exists().then_some(nothing));
    }
    if gguf {
        let file = Gguf::open(place)?;
        let shape = Config::from_gguf(&file)?;
        // The embedding is the head where the file has no other.
        let apart = file.has_tensor("output.weight");
        let products = file.tensors().filter(|tensor| {
            tensor.dims.len() == 2 && !(apart && tensor.name == "token_embd.weight")
        });
        let weights: u64 = products.map(|tensor| tensor.n_elements()).sum();
        let attention = shape.n_layers * shape.q_size() * seq_len;
        return Ok(Some(Targets {
            flops_per_token: 2 * (weights + attention as u64),
            bytes: file.file_size(),
        }));
    }
    let shape = ModelConfig::from_json_file(&place.join("config.json"))?;
    Ok(Some(Targets {
        flops_per_token: forward_flops_per_token(&shape, seq_len),
        bytes: 4 * shape.parameters(),
    }))
}
