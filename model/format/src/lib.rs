//! A model on disk: what every other crate of retort knows about files of models.
//!
//! * [`ModelConfig`]: a decoder's shape, in and out of `config.json`; [`Architecture`]: the facts
//!   of each family; [`rope`]: rotary frequencies and how they are scaled.
//! * [`tensors()`]: the tensors of a model under the names of checkpoints and of GGUF files, each
//!   with the [`ParamKey`]s of the parameters that it holds and the [`Axes`] they run over.
//! * [`checkpoint`]: safetensors directories, read in parts and written a tensor at a time.
//! * [`gguf`]: GGUF files, in and out; [`quant`]: ggml's number formats and their rounding.
//!
//! Nothing in a file is trusted: sizes are bounded by the file before anything is allocated. This
//! crate knows no tensors of a framework, no kernels and no text.

mod architecture;
mod axes;
pub mod checkpoint;
mod config;
mod config_json;
pub mod error;
pub mod gguf;
mod json_fields;
mod map;
mod param_key;
pub mod precision;
pub mod quant;
mod resolve;
pub mod rope;
mod rope_scaling;
mod tensors;

pub use architecture::{Architecture, RopePairs};
pub use axes::{Axes, Axis};
pub use config::{ConfigSource, ModelConfig};
pub use error::{Error, Result};
pub use gguf::names::{gguf_tensors, optional_gguf_tensors};
pub use param_key::{LayerLinear, ParamKey};
pub use precision::Precision;
pub use quant::GgmlType;
pub use rope_scaling::RopeScaling;
pub use tensors::{Kind, TensorSpec, tensors};
