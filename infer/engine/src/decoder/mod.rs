//! The engine: a decoder run from a mapped GGUF file.
//!
//! [`Engine`] is the model, shared and read-only; a [`Session`] is one sequence with its keys and
//! values: token ids in, logits `[vocab_size]` out. A [`Batch`] takes several [`Sequence`]s through
//! together. Weights are never copied: the kernels read them where the file is mapped.

mod batch;
mod config;
mod config_metadata;
mod engine;
mod forward;
mod kv_block;
mod kv_cache;
pub mod layer;
mod linear;
mod memory;
mod rope;
mod sequence;
mod session;
mod weights;

pub use batch::Batch;
pub use config::{Config, PastTrained};
pub use config_metadata::config_metadata;
pub use engine::{Engine, EngineSettings};
pub use kv_block::{BLOCK as PAGE, KvType};
pub use kv_cache::{KvCache, Page};
pub use rope::Rope;
pub use sequence::Sequence;
pub use session::Session;
