//! Models: the decoder of every architecture as one Burn module, and what is done with it.
//!
//! In: a [`ModelConfig`](retort_format::ModelConfig) and weights (random, or a directory of safetensors). Out: a
//! [`Decoder`] that maps token ids `[batch, sequence]` to logits
//! `[batch, sequence, vocabulary]`, or a directory that `transformers` opens.
//!
//! How architectures differ is in `retort_format`. This crate knows nothing about data or
//! training.

mod adapter;
mod attention;
mod block;
mod build;
mod cache;
mod checkpoint;
mod decoder;
mod fake_quantization;
mod forward;
mod forward_context;
mod generate;
mod latent_weights;
mod layerwise;
mod likelihood;
mod linear;
mod lm_head;
mod lora;
mod lora_file;
mod mlp;
mod names;
mod projections;
mod quantization_config;
mod tensor_data;
mod weights;

pub use adapter::Adapter;
pub use attention::Attention;
pub use block::Block;
pub use cache::Cache;
pub use checkpoint::{SaveOptions, load, load_as, save, save_as};
pub use decoder::Decoder;
pub use generate::generate;
pub use latent_weights::{load_latent, save_latent};
pub use layerwise::{LayerActivations, LayerwiseForward};
pub use likelihood::{Likelihood, Query, likelihoods};
pub use linear::Linear;
pub use lora::LoraConfig;
pub use lora_file::{load_adapters, save_adapters};
pub use mlp::Mlp;
pub use names::{NamedParameters, named_parameters};
pub use projections::{load_projections, save_projections};
pub use quantization_config::{ActivationFormat, FakeQuantization, KvFormat, Scales, WeightFormat};
pub use retort_ops::{
    DistillationLoss, Documents, LogitsOf, LossWeights, Sparse, Tail, TeacherLogits, cross_entropy,
};
pub use weights::{RandomInit, Weights};
