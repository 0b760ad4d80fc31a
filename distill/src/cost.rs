//! The arithmetic and memory of a teacher, from its config or its file's header.

use retort_engine::decoder::Config;
use retort_format::ModelConfig;
use retort_format::gguf::Gguf;
use retort_train::{TeacherCost, forward_flops_per_token};

use crate::config::TeacherConfig;
use crate::error::Result;

/// The cost of the teacher of `config` on rows of `seq_len` tokens: FLOPs a token, and bytes of
/// its weights (of the file for GGUF, in f32 for a directory, 0 for a cache). `None` if the path
/// does not exist.
///
/// # Errors
/// The path exists and is not a teacher.
pub fn teacher_cost(config: &TeacherConfig, seq_len: usize) -> Result<Option<TeacherCost>> {
    let source = config.source();
    if !source.exists() {
        return Ok(None);
    }
    if config.cache.is_some() {
        return Ok(Some(TeacherCost {
            flops_per_token: 0,
            bytes: 0,
        }));
    }
    if source.extension().is_some_and(|e| e == "gguf") {
        let file = Gguf::open(source)?;
        let shape = Config::from_gguf(&file)?;
        // Without a head of its own the embedding is the head.
        let untied = file.has_tensor("output.weight");
        let products = file.tensors().filter(|tensor| {
            tensor.dims.len() == 2 && !(untied && tensor.name == "token_embd.weight")
        });
        let weights: u64 = products.map(|tensor| tensor.n_elements()).sum();
        let attention = shape.n_layers * shape.q_size() * seq_len;
        return Ok(Some(TeacherCost {
            flops_per_token: 2 * (weights + attention as u64),
            bytes: file.file_size(),
        }));
    }
    let shape = ModelConfig::from_json_file(&source.join("config.json"))?;
    Ok(Some(TeacherCost {
        flops_per_token: forward_flops_per_token(&shape, seq_len),
        bytes: 4 * shape.parameters(),
    }))
}
