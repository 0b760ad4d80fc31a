//! Models: the decoder of every architecture as one Burn module, and what is done with it.
//!
//! In: a [`ModelConfig`](retort_format::ModelConfig) and weights (random, or a directory of safetensors). Out: a
//! [`Decoder`] that maps token ids `[batch, sequence]` to logits
//! `[batch, sequence, vocabulary]`, or a directory that `transformers` opens.
//!
//! How architectures differ is in `retort_format`. This crate knows nothing about data or
//! training.

mod attention;
mod beside;
mod build;
mod cache;
mod checkpoint;
mod decoder;
mod distillation;
mod documents;
mod fake_quantization;
mod generate;
mod likelihood;
mod linear;
mod lora;
mod lora_file;
mod mlp;
mod names;
mod observe;
mod ops;
mod pieces;
mod rotary;
mod tensor_data;
mod weights;

pub use attention::Attention;
pub use beside::{load_beside, save_beside};
pub use cache::Cache;
pub use checkpoint::{SaveOptions, load, load_as, save, save_as};
pub use decoder::{Block, Decoder};
pub use distillation::{Distilled, Lesson, LogitsOf, Mixture, Rest, Sparse};
pub use documents::Documents;
pub use fake_quantization::{
    ActivationFormat, FakeQuantization, KvFormat, Scales, WeightFormat, load_latent, save_latent,
};
pub use generate::generate;
pub use likelihood::{Likelihood, Query, likelihoods};
pub use linear::Linear;
pub use lora::{Adapter, LoraConfig};
pub use lora_file::{load_adapters, save_adapters};
pub use mlp::Mlp;
pub use names::{NamedParameters, named_parameters};
pub use observe::Observed;
pub use ops::cross_entropy;
pub use pieces::Pieces;
pub use weights::{RandomInit, Weights};
