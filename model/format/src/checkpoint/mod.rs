//! Hugging Face checkpoint directories: `config.json`, `model.safetensors` (or shards with an
//! index), `generation_config.json`, and the tokenizer's files carried along.

mod companions;
mod json;
mod reader;
mod safetensors;
mod writer;

pub use companions::{Companions, copy_companions};
pub use json::{write_config, write_json};
pub use reader::{CheckpointReader, open, stored_precision};
pub use safetensors::SafetensorsMap;
pub use writer::{MAX_SHARD_BYTES, TensorHeader, TensorSink, write_file, write_weights};
