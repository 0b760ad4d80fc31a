//! Converts models: a Hugging Face directory to a GGUF file and back, and a file to one of fewer bits.
//!
//! ```text
//! Hugging Face directory ─► export ─► model.gguf ─► import ─► Hugging Face directory
//!                                       │   ▲
//!                                       ▼   │
//!                             quantize, calibrate, pack
//! ```
//!
//! This crate knows neither Burn nor sockets.

pub mod calibrate;
pub mod export;
pub mod import;
pub mod pack;
pub mod quantize;

pub use retort_format::{Error, Result};
