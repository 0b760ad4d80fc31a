//! The decoder that all architectures are.
//!
//! In: token ids `[B, T]`. Out: logits `[B, T, V]`.
//!
//! ```text
//! x  = embed(ids)                                  [B, T, D]
//! x += o(attention(rope(q(n)), rope(k(n)), v(n)))  n = rmsnorm(x)
//! x += down(silu(gate(n)) · up(n))                 n = rmsnorm(x)
//! logits = head(rmsnorm(x))                        [B, T, V]
//! ```
//!
//! B batch, T sequence, D hidden_size, V vocab_size (Touvron et al., arXiv 2302.13971).
//! What an architecture adds is in its own file.

use burn::module::{Module, Param};
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{Device, Tensor};
use retort_format::{ModelConfig, Precision};

use crate::block::Block;
use crate::linear::Linear;
use crate::quantization_config::FakeQuantization;
use crate::tensor_data::dtype;

/// The whole decoder.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Token embeddings, `[V, D]`.
    pub embed_tokens: Embedding,
    /// The layers.
    pub layers: Vec<Block>,
    /// Norm before the head.
    pub norm: RmsNorm,
    /// The head, `[D, V]`; absent when tied to the embedding.
    pub lm_head: Option<Linear>,
    /// Auxiliary parameters of a loss, `[in, out]` each, which are no part of the model
    /// (`projections.rs`).
    pub projections: Vec<Param<Tensor<2>>>,
    #[module(skip)]
    pub(crate) config: ModelConfig,
    /// See [`with_compute`](Decoder::with_compute).
    #[module(skip)]
    pub(crate) compute: Precision,
    /// See [`with_fake_quantization`](Decoder::with_fake_quantization).
    #[module(skip)]
    pub(crate) quantization: Option<FakeQuantization>,
}

impl Decoder {
    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether its device has arithmetic of `precision`: some store and convert one that they
    /// cannot compute in.
    pub fn can_compute(&self, precision: Precision) -> bool {
        let device = self.embed_tokens.weight.val().device();
        device.supports_dtype(dtype(precision))
    }

    /// The same weights, with products in `compute`: the inputs of products are rounded to it, on
    /// the way back too. Weights, their gradients, the residual stream, norms, softmax, losses
    /// and all sums over positions stay in f32. On the CPU it is for tests: nothing there computes
    /// in half precision faster.
    pub fn with_compute(mut self, compute: Precision) -> Self {
        self.compute = compute;
        self
    }

    /// Whether the fused operations run where no weights are read.
    pub(crate) fn fused(&self, device: &Device) -> bool {
        self.compute == Precision::F32 && retort_ops::available(device)
    }
}
