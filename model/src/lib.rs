//! Models: configurations with Hugging Face's names, decoder architectures as Burn
//! modules (one file each), and Hugging Face checkpoint directories in and out.
//!
//! In: a [`ModelConfig`] and weights (random, or a directory of safetensors). Out: a
//! [`Llama`] that maps token ids `[batch, sequence]` to logits
//! `[batch, sequence, vocabulary]`, or a directory that `transformers` opens.
//!
//! This crate knows nothing about data or training.

mod checkpoint;
mod config;
mod error;
mod generate;
mod llama;
mod rotary;
mod safetensors_file;
mod weights;

pub use checkpoint::{load, save};
pub use config::ModelConfig;
pub use error::{Error, Result};
pub use generate::generate;
pub use llama::{Attention, Block, Llama, Mlp};
pub use weights::{RandomInit, Weights};
