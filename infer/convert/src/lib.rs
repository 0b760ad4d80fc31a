//! Converts models: a Hugging Face directory to a GGUF file and back, and a file to one of fewer bits.
//!
//! ```text
//! Hugging Face directory ─┬─► source ─► (rotate, calibrate) ─► quantize ─► model.gguf ─► import, pack
//! model.gguf ─────────────┘
//! ```
//!
//! This crate knows neither Burn nor sockets.

pub mod calibrate;
pub mod export;
pub mod import;
pub mod pack;
mod progress;
pub mod quantize;
pub mod source;

pub use progress::{Converted, Progress};
pub use retort_format::{Error, Result};
