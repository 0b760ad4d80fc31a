//! Models: configurations with Hugging Face's names, decoder architectures as one Burn
//! module, and Hugging Face checkpoint directories in and out.
//!
//! In: a [`ModelConfig`] and weights (random, or a directory of safetensors). Out: a
//! [`Decoder`] that maps token ids `[batch, sequence]` to logits
//! `[batch, sequence, vocabulary]`, or a directory that `transformers` opens.
//!
//! The architectures are told apart in one file each: `llama.rs`, `qwen.rs`, `qwen2.rs`,
//! `qwen3.rs`. This crate knows nothing about data or training.

mod architecture;
mod attention;
mod beside;
mod build;
mod cache;
mod checkpoint;
mod config;
mod config_json;
mod decoder;
mod distillation;
mod documents;
mod error;
mod extents;
mod fake_quantization;
mod generate;
mod likelihood;
mod linear;
mod llama;
mod lora;
mod lora_file;
mod mapped;
mod mlp;
mod named;
mod observe;
mod ops;
mod pieces;
mod precision;
mod qwen;
mod qwen2;
mod qwen3;
mod rotary;
mod sites;
mod stored;
mod tensors;
mod weights;
mod writer;

pub use architecture::Architecture;
pub use attention::Attention;
pub use beside::{load_beside, save_beside};
pub use cache::Cache;
pub use checkpoint::{
    SaveOptions, copy_companions, load, load_as, save, save_as, stored_precision, write_config,
};
pub use config::ModelConfig;
pub use decoder::{Block, Decoder};
pub use distillation::{Distilled, Lesson, LogitsOf, Mixture, Rest, Sparse};
pub use documents::Documents;
pub use error::{Error, Result};
pub use extents::{Dimension, Extent};
pub use fake_quantization::{
    ActivationFormat, FakeQuantization, KvFormat, Scales, WeightFormat, load_latent, save_latent,
};
pub use generate::generate;
pub use likelihood::{Likelihood, Query, likelihoods};
pub use linear::Linear;
pub use lora::{Adapter, LoraConfig};
pub use lora_file::{load_adapters, save_adapters};
pub use mlp::Mlp;
pub use named::{NamedParameters, named_parameters};
pub use observe::Observed;
pub use ops::cross_entropy;
pub use pieces::Pieces;
pub use precision::Precision;
pub use rotary::RopeScaling;
pub use stored::Stored;
pub use tensors::{Kind, TensorSpec, tensors};
pub use weights::{RandomInit, Weights};
pub use writer::write_weights;
