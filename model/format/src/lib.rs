//! A model on disk: GGUF files in and out, and the number formats of weights with their rounding.
//!
//! ```text
//! model.gguf ─► gguf::Gguf    metadata, and views of tensors in the mapped file
//! tensors    ─► gguf::Writer ─► model.gguf
//! f32 rows  ◄─► quant         ggml's block formats, and the panels of packed files
//! ```
//!
//! Nothing in a file is trusted: sizes are bounded by the file before anything is allocated. This crate knows
//! neither kernels nor Burn nor text.

pub mod atomic_file;
pub mod error;
pub mod gguf;
pub mod quant;

pub use error::{Error, Result};
pub use quant::GgmlType;
