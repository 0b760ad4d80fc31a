//! The edge engine: GGUF, quantization, kernels, decoding.

pub mod error;
pub mod gguf;
pub mod kernels;
pub mod quant;

pub use error::{Error, Result};
