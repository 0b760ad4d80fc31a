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

use burn::module::Module;
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::attention::{Attention, Block as Rows, Pass};
use crate::cache::Cache;
use crate::config::ModelConfig;
use crate::documents::Documents;
use crate::linear::{Linear, lookup, product};
use crate::mlp::Mlp;
use crate::qwen::logn_factor;
use crate::rotary::{Rotary, frequencies};
use crate::tensors::Projection;

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
    #[module(skip)]
    pub(crate) config: ModelConfig,
}

impl Decoder {
    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The last layer's normed output `[B, T, D]` for ids `[B, T]`, each row one document.
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [b, t] = ids.dims();
        let device = ids.device();
        let blocks = Rows::causal(t, 0, self.step(b, t, t), &device);
        let pass = self.pass(0..t, 1, t, blocks, &device);
        self.run(ids, &pass, None)
    }

    /// The same for documents packed into rows: attention stays within a document and
    /// positions start again in each.
    ///
    /// # Panics
    /// `documents` has other dimensions than `ids`.
    pub fn hidden_packed(&self, ids: Tensor<2, Int>, documents: &Documents) -> Tensor<3> {
        let [b, t] = ids.dims();
        assert_eq!(documents.dims(), [b, t], "documents of these ids");
        let device = ids.device();
        let blocks = Rows::packed(documents, self.step(b, t, t), &device);
        let longest = documents.positions().max().map_or(0, |p| p + 1);
        let pass = self.pass(documents.positions(), b, longest, blocks, &device);
        self.run(ids, &pass, None)
    }

    /// The same for ids `[B, T]` that follow those in `cache`, which takes them in. An
    /// empty cache may be given any B; afterwards B stays.
    ///
    /// Exact as long as [`Cache::fits`] says so.
    pub fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        let [b, t] = ids.dims();
        let device = ids.device();
        let past = cache.length;
        cache.length += t;
        cache.layers.resize_with(self.layers.len(), || None);
        let blocks = Rows::causal(t, past, self.step(b, t, cache.length), &device);
        let pass = self.pass(past..past + t, 1, cache.length, blocks, &device);
        self.run(ids, &pass, Some(cache))
    }

    /// Queries in a block of attention for `t` in each of `b` rows against `s` keys.
    fn step(&self, b: usize, t: usize, s: usize) -> usize {
        Rows::step(t, s, b * self.config.num_attention_heads)
    }

    /// What the layers share for queries at `positions` of a sequence of `length`.
    fn pass(
        &self,
        positions: impl Iterator<Item = usize> + Clone,
        rows: usize,
        length: usize,
        blocks: Vec<Rows>,
        device: &Device,
    ) -> Pass {
        let c = &self.config;
        // The first Qwen stretches past its trained length, but not while it is trained.
        let stretch = !device.is_autodiff();
        let query_scale = (stretch && c.use_logn_attn && length > c.seq_length).then(|| {
            let factors: Vec<f32> = positions
                .clone()
                .map(|p| logn_factor(p, c.seq_length) as f32)
                .collect();
            let shape = [rows, 1, factors.len() / rows, 1];
            Tensor::from_data(TensorData::new(factors, shape), device)
        });
        let frequencies = frequencies(c, length, stretch);
        Pass {
            rotary: Rotary::new(positions, rows, &frequencies, device),
            blocks,
            query_scale,
        }
    }

    fn run(&self, ids: Tensor<2, Int>, pass: &Pass, mut cache: Option<&mut Cache>) -> Tensor<3> {
        let mut x = lookup(&self.embed_tokens.weight, ids);
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| &mut cache.layers[i]);
            let n = layer.input_layernorm.forward(x.clone());
            x = x + layer.self_attn.forward(n, pass, cache);
            let n = layer.post_attention_layernorm.forward(x.clone());
            x = x + layer.mlp.forward(n);
        }
        self.norm.forward(x)
    }

    /// Logits `[B, T, V]` of a [`hidden`](Self::hidden) output (or a part of its positions).
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => product(hidden, self.embed_tokens.weight.val().transpose()),
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
        let linears = self
            .layers
            .iter()
            .flat_map(|layer| Projection::ALL.map(|p| layer.linear(p)));
        let adapters: u64 = linears
            .filter_map(|linear| linear.adapter.as_ref())
            .map(|a| (a.a.val().shape().num_elements() + a.b.val().shape().num_elements()) as u64)
            .sum();
        match adapters {
            0 => self.config.parameters(),
            n => n,
        }
    }
}
