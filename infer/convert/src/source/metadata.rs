//! A model's configuration as the metadata of a GGUF file (llama.cpp's `convert_hf_to_gguf.py`).

use std::path::Path;

use retort_engine::decoder::{DYNAMIC_NTK, LOGN, TRAINED_LENGTH};
use retort_format::gguf::Metadata;
use retort_format::{Architecture, ModelConfig, RopeScaling};

/// The metadata of the model in `dir`, without its tokenizer.
pub(super) fn of(dir: &Path, model: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new(dir);
    let architecture = model.model_type.name();
    let folder = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = folder.file_name().map(|name| name.to_string_lossy());
    metadata.set("general.architecture", architecture);
    metadata.set("general.type", "model");
    metadata.set("general.name", name.as_deref().unwrap_or("model"));
    metadata.set("general.file_type", 0u32);
    metadata.set("general.quantization_version", 2u32);
    let key = |field: &str| format!("{architecture}.{field}");
    let sizes = [
        ("vocab_size", model.vocab_size),
        ("context_length", model.max_position_embeddings),
        ("embedding_length", model.hidden_size),
        ("block_count", model.num_hidden_layers),
        // Readers of `qwen` files halve it, as Qwen's own code halves config.json's.
        ("feed_forward_length", model.intermediate_size),
        ("attention.head_count", model.num_attention_heads),
        ("attention.head_count_kv", model.num_key_value_heads),
        ("attention.key_length", model.head_dim),
        ("attention.value_length", model.head_dim),
        ("rope.dimension_count", model.head_dim),
    ];
    for (field, size) in sizes {
        // ModelConfig::resolve refuses sizes beyond 2^24.
        metadata.set(&key(field), size as u32);
    }
    let eps = model.rms_norm_eps as f32;
    metadata.set(&key("attention.layer_norm_rms_epsilon"), eps);
    metadata.set(&key("rope.freq_base"), model.rope_theta as f32);
    match model.rope_scaling {
        None => {}
        Some(RopeScaling::Linear { factor }) => {
            metadata.set(&key("rope.scaling.type"), "linear");
            metadata.set(&key("rope.scaling.factor"), factor as f32);
        }
        // The scaling itself is in rope_freqs.weight; only import asks for this.
        Some(RopeScaling::Llama3 {
            original_max_position_embeddings: length,
            ..
        }) => metadata.set(&key(TRAINED_LENGTH), length as u32),
    }
    if model.model_type == Architecture::Qwen {
        metadata.set(&key(TRAINED_LENGTH), model.seq_length as u32);
        metadata.set(&key(DYNAMIC_NTK), model.use_dynamic_ntk);
        metadata.set(&key(LOGN), model.use_logn_attn);
    }
    metadata
}
