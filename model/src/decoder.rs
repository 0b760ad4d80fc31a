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

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::attention::{Attention, Composed, Mixing, Pass};
use crate::cache::Cache;
use crate::distillation::{self, Distilled, Lesson, Mixture, Student};
use crate::documents::Documents;
use crate::fake_quantization::{FakeQuantization, KvFormat};
use crate::linear::{Linear, product, to};
use crate::mlp::Mlp;
use crate::ops::{self, Block as Rows, Geometry, rms_norm};
use crate::rotary::Rotary;
use crate::tensor_data::dtype;
use retort_format::ModelConfig;
use retort_format::ParamKey;
use retort_format::Precision;
use retort_format::rope::logn_factor;
use retort_format::rope::{angles, frequencies};

/// One layer: attention and feed-forward, each on a normed input and added back.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward block.
    pub post_attention_layernorm: RmsNorm,
    /// Feed-forward block.
    pub mlp: Mlp,
}

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
    /// Matrices trained beside the model, `[in, out]` each; no part of it (`beside.rs`).
    pub beside: Vec<Param<Tensor<2>>>,
    #[module(skip)]
    pub(crate) config: ModelConfig,
    /// See [`with_compute`](Decoder::with_compute).
    #[module(skip)]
    pub(crate) compute: Precision,
    /// See [`with_fake_quantization`](Decoder::with_fake_quantization).
    #[module(skip)]
    pub(crate) quantization: Option<FakeQuantization>,
}

/// What the queries of a pass see.
pub(crate) enum Sight<'a> {
    /// All before them in their row.
    Causal,
    /// All before them in their document.
    Packed(&'a Documents),
    /// So many cached positions, and all before them in their row.
    Cached(usize),
}

impl Decoder {
    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether its device has arithmetic of `precision`: some store and convert one that they cannot compute in.
    pub fn can_compute(&self, precision: Precision) -> bool {
        let device = self.embed_tokens.weight.val().device();
        device.supports_dtype(dtype(precision))
    }

    /// The same weights, with products in `compute`: what goes into a product is rounded to it, on
    /// the way back too. Weights, their gradients, the residual stream, norms, softmax, losses
    /// and all sums over positions stay in f32. On the CPU it is for tests: nothing there computes
    /// in half precision faster.
    pub fn with_compute(mut self, compute: Precision) -> Self {
        self.compute = compute;
        self
    }

    /// The last layer's normed output `[B, T, D]` for ids `[B, T]`, each row one document.
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let pass = self.pass(&ids, Sight::Causal);
        self.run(ids, &pass, None)
    }

    /// The same for documents packed into rows: attention stays within a document and
    /// positions start again in each.
    ///
    /// # Panics
    /// `documents` has other dimensions than `ids`, or the model rounds keys and values.
    pub fn hidden_packed(&self, ids: Tensor<2, Int>, documents: &Documents) -> Tensor<3> {
        assert_eq!(documents.dims(), ids.dims(), "documents of these ids");
        let pass = self.pass(&ids, Sight::Packed(documents));
        self.run(ids, &pass, None)
    }

    /// The same for ids `[B, T]` that follow those in `cache`, which takes them in. An
    /// empty cache may be given any B; afterwards B stays.
    ///
    /// Exact as long as [`Cache::fits`] says so.
    pub fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        let pass = self.pass(&ids, Sight::Cached(cache.length));
        cache.length += ids.dims()[1];
        cache.layers.resize_with(self.layers.len(), || None);
        self.run(ids, &pass, Some(cache))
    }

    /// What the layers share for a pass over `ids` `[B, T]`.
    pub(crate) fn pass(&self, ids: &Tensor<2, Int>, sight: Sight<'_>) -> Pass {
        let ([b, t], device, c) = (ids.dims(), ids.device(), &self.config);
        let past = match sight {
            Sight::Cached(past) => past,
            _ => 0,
        };
        let (positions, rows): (Vec<usize>, _) = match sight {
            Sight::Packed(documents) => (documents.positions().collect(), b),
            _ => ((past..past + t).collect(), 1),
        };
        let length = positions.iter().max().map_or(0, |p| p + 1);
        // The first Qwen stretches past its trained length, but not while it is trained.
        let stretch = !device.is_autodiff();
        let query_scale = (stretch && c.use_logn_attn && length > c.seq_length).then(|| {
            let factor = |&p| logn_factor(p, c.seq_length) as f32;
            let factors: Vec<f32> = positions.iter().map(factor).collect();
            Tensor::from_data(TensorData::new(factors, [rows, t, 1, 1]), &device)
        });
        let angles = angles(&positions, &frequencies(c, length, stretch));
        let rounded = self.quantization.is_some_and(|q| q.kv == KvFormat::Q8);
        assert!(
            !(rounded && matches!(sight, Sight::Packed(_))),
            "keys and values are rounded in blocks of the row, which documents do not share"
        );
        let fused = !matches!(sight, Sight::Cached(_)) && self.fused(&device);
        let mixing = if fused {
            Mixing::Fused(Arc::new(Geometry {
                batch: b,
                length: t,
                heads: c.num_attention_heads,
                kv_heads: c.num_key_value_heads,
                head_dim: c.head_dim,
                cos: angles.0,
                sin: angles.1,
                starts: match sight {
                    Sight::Packed(documents) => Some(documents.starts().to_vec()),
                    _ => None,
                },
                rounded,
            }))
        } else {
            let step = Rows::step(t, past + t, b * c.num_attention_heads);
            Mixing::Composed(Box::new(Composed {
                rotary: Rotary::new(angles, rows, c.head_dim / 2, &device),
                blocks: match sight {
                    Sight::Packed(documents) => Rows::packed(documents, step, &device),
                    _ => Rows::causal(t, past, step, rounded, &device),
                },
                rounded,
            }))
        };
        Pass {
            mixing,
            query_scale,
            compute: dtype(self.compute),
        }
    }

    /// Whether the operations of [`ops`] run what has no weights.
    fn fused(&self, device: &Device) -> bool {
        self.compute == Precision::F32 && ops::available(device)
    }

    fn run(&self, ids: Tensor<2, Int>, pass: &Pass, mut cache: Option<&mut Cache>) -> Tensor<3> {
        let mut x = self.embed(ids);
        for i in 0..self.layers.len() {
            let cache = cache.as_deref_mut().map(|cache| &mut cache.layers[i]);
            x = self.layer(i, x, pass, cache);
        }
        rms_norm(&self.norm, x)
    }

    /// What comes out of layer `i` if `x` `[B, T, D]` goes in.
    pub(crate) fn layer(
        &self,
        i: usize,
        x: Tensor<3>,
        pass: &Pass,
        cache: Option<&mut Option<[Tensor<4>; 2]>>,
    ) -> Tensor<3> {
        let layer = &self.layers[i];
        let n = rms_norm(&layer.input_layernorm, x.clone());
        let x = layer
            .self_attn
            .forward_added(to(n, pass.compute), x, pass, cache);
        let n = rms_norm(&layer.post_attention_layernorm, x.clone());
        layer.mlp.forward_added(to(n, pass.compute), x)
    }

    /// Logits `[B, T, V]` of a [`hidden`](Self::hidden) output (or a part of its positions).
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = to(hidden, dtype(self.compute));
        let logits = match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => product(self.head_input(hidden), self.table().transpose()),
        };
        to(logits, DType::F32)
    }

    /// `Σ weight · −log softmax(logits)[target]` in nats, `[1]`, over the positions of a
    /// hidden output `[B, T, D]`, with `targets` and `weights` `[B, T]`. The logits of all
    /// positions do not exist at once where the device can do without.
    pub fn cross_entropy(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> Tensor<1> {
        let [b, t, d] = hidden.dims();
        let n = b * t;
        let (targets, weights) = (targets.reshape([n]), weights.reshape([n]));
        let (head, tied) = self.head();
        if self.fused(&hidden.device()) && head.dtype() == DType::F32 {
            let hidden = self.head_input(hidden.reshape([n, d]));
            return ops::linear_cross_entropy(hidden, head, tied, targets, weights);
        }
        let logits = self.logits(hidden);
        let v = logits.dims()[2];
        ops::cross_entropy(logits.reshape([n, v]), targets, weights)
    }

    /// What the text and a teacher's `lesson` say about the positions of a hidden output
    /// `[B, T, D]`, with `targets` and `weights` `[B, T]`: see [`Mixture`]. No more than a
    /// chunk's logits exist at once. The head's products are in f32, whatever the model computes
    /// in.
    ///
    /// # Panics
    /// A sparse lesson names an id that the model does not have.
    pub fn distillation(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
        lesson: Lesson,
        mixture: Mixture,
    ) -> Distilled {
        let [b, t, d] = hidden.dims();
        let n = b * t;
        let (head, tied) = self.head();
        let student = Student {
            hidden: self.head_input(hidden.reshape([n, d])),
            head,
            tied,
        };
        let (targets, weights) = (targets.reshape([n]), weights.reshape([n]));
        distillation::distillation(student, targets, weights, lesson, mixture)
    }

    /// The head `[D, V]`, or the embedding `[V, D]` that it is tied to: then the second is true.
    fn head(&self) -> (Tensor<2>, bool) {
        match &self.lm_head {
            Some(head) => (head.merged_weight(), false),
            None => (self.table(), true),
        }
    }

    /// Logits `[N, V]` of the positions `at` `[N]` of a hidden output, counted through
    /// `[B, T]` row by row: the head runs on those alone.
    pub fn logits_at(&self, hidden: Tensor<3>, at: Tensor<1, Int>) -> Tensor<2> {
        let [b, t, d] = hidden.dims();
        let chosen = hidden.reshape([b * t, d]).select(0, at);
        self.logits(chosen.unsqueeze()).squeeze_dim(0)
    }

    /// Logits `[B, T, V]` for ids `[B, T]`, each row one document.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.hidden(ids))
    }

    /// How many weights training would change: all, or the adapters' where there are any.
    pub fn trainable_parameters(&self) -> u64 {
        let adapters: u64 = ParamKey::linears(&self.config)
            .filter_map(|site| self.linear(site).adapter.as_ref())
            .map(|a| (a.a.val().shape().num_elements() + a.b.val().shape().num_elements()) as u64)
            .sum();
        match adapters {
            0 => self.config.parameters(),
            n => n,
        }
    }
}
