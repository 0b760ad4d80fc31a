//! The edge engine: GGUF files read and written, weights quantized, text generated on a CPU.
//!
//! ```text
//! model.gguf ─► gguf ─┬─► tokenizer   text ↔ token ids
//!                     └─► engine      token ids → logits, over kernels on quantized weights
//!                             ├─► sampling, generate, chat, perplexity, bench
//!                             └─► scheduler ─► serve     many requests over HTTP
//! Hugging Face directory ─► export ─► model.gguf ─► import ─► Hugging Face directory
//! ```
//!
//! This crate stands alone: it knows nothing of training or of Burn, and builds for aarch64 with a
//! linker and nothing else. [`Model`] is the way in.

mod aside;
pub mod bench;
pub mod calibrate;
pub mod chat;
pub mod constrain;
pub mod divergence;
pub mod engine;
pub mod error;
pub mod export;
pub mod generate;
pub mod gguf;
pub mod import;
pub mod kernels;
mod layout;
pub mod machine;
pub mod pack;
pub mod perplexity;
pub mod pool;
pub mod quant;
pub mod quantize;
mod rope_scaling;
pub mod sampling;
pub mod scheduler;
pub mod serve;
pub mod speculate;
pub mod template;
pub mod threads;
pub mod tokenizer;

pub use error::{Error, Result};
pub use generate::{Generation, Model};
pub use quant::GgmlType;
