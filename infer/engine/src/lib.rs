//! Runs a decoder from a GGUF file on a CPU: token ids in, logits out, and text from them.
//!
//! ```text
//! model.gguf ─► retort_format::gguf ─┬─► tokenizer   text ↔ token ids
//!                                    └─► decoder     token ids → logits, by the kernels of retort_kernels
//!                                          └─► sampling, generate, speculate, chat, perplexity, divergence, bench
//! ```
//!
//! This crate knows neither Burn nor sockets nor command lines, and builds for aarch64 with a linker and nothing
//! else. [`Model`] is the way in.

pub mod bench;
pub mod chat;
pub mod constrain;
pub mod decode;
pub mod decoder;
pub mod divergence;
pub mod generate;
pub mod logprobs;
pub mod machine;
pub mod model;
pub mod perplexity;
pub mod sampling;
pub mod speculate;
pub mod template;
pub mod tokenizer;

pub use generate::Generation;
pub use model::Model;
pub use retort_format::{Error, GgmlType, Result};
