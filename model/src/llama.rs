//! The Llama decoder (Touvron et al., arXiv 2302.13971; grouped heads as in Llama 2).
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
//! B batch, T sequence, D hidden_size, V vocab_size, H query heads, K key/value heads,
//! G = H / K, E head_dim. Burn keeps a matrix as `[in, out]`, Hugging Face as
//! `[out, in]`: building and exporting transpose.

use burn::module::{Module, Param, ParamId};
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};

use crate::config::ModelConfig;
use crate::rotary::Rotary;
use crate::weights::Weights;

/// Causal self-attention with grouped key/value heads.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, `[D, H·E]`.
    pub q_proj: Linear,
    /// Keys, `[D, K·E]`.
    pub k_proj: Linear,
    /// Values, `[D, K·E]`.
    pub v_proj: Linear,
    /// Back to the residual stream, `[H·E, D]`.
    pub o_proj: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// SwiGLU feed-forward block (Shazeer, arXiv 2002.05202).
#[derive(Module, Debug)]
pub struct Mlp {
    /// The gate, `[D, intermediate]`.
    pub gate_proj: Linear,
    /// What is gated, `[D, intermediate]`.
    pub up_proj: Linear,
    /// Back to the residual stream, `[intermediate, D]`.
    pub down_proj: Linear,
}

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
pub struct Llama {
    /// Token embeddings, `[V, D]`.
    pub embed_tokens: Embedding,
    /// The layers.
    pub layers: Vec<Block>,
    /// Norm before the head.
    pub norm: RmsNorm,
    /// The head, `[D, V]`; absent when tied to the embedding.
    pub lm_head: Option<Linear>,
    rope_theta: f64,
}

/// Builds parameters in one fixed order, numbering them, so that optimizer states, which
/// are keyed by these ids, mean the same parameter in every process.
struct Builder<'a> {
    weights: &'a mut dyn Weights,
    device: &'a Device,
    next_id: u64,
}

impl Builder<'_> {
    fn param<const N: usize>(&mut self, tensor: Tensor<N>) -> Param<Tensor<N>> {
        self.next_id += 1;
        let tensor = tensor.set_require_grad(self.device.is_autodiff());
        Param::initialized(ParamId::from(self.next_id), tensor)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Tensor<2> {
        let values = self.weights.take(name, &shape);
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn linear(&mut self, name: &str, input: usize, output: usize) -> Linear {
        let weight = self.matrix(name, [output, input]);
        // Copied into [in, out] once here rather than strided over in every product.
        let data = weight.transpose().into_data();
        let weight = Tensor::from_data(data, self.device);
        Linear {
            weight: self.param(weight),
            bias: None,
        }
    }

    fn norm(&mut self, name: &str, size: usize, epsilon: f64) -> RmsNorm {
        let values = self.weights.take(name, &[size]);
        let gamma = Tensor::from_data(TensorData::new(values, [size]), self.device);
        RmsNorm {
            gamma: self.param(gamma),
            epsilon,
        }
    }
}

impl Llama {
    /// Builds the decoder on `device` with tensors from `weights`.
    ///
    /// `config` must be resolved ([`ModelConfig::resolve`]).
    pub fn build(config: &ModelConfig, weights: &mut dyn Weights, device: &Device) -> Self {
        let c = config;
        let (d, e, eps) = (c.hidden_size, c.head_dim, c.rms_norm_eps);
        let mut b = Builder {
            weights,
            device,
            next_id: 0,
        };
        let table = b.matrix("model.embed_tokens.weight", [c.vocab_size, d]);
        let embed_tokens = Embedding {
            weight: b.param(table),
        };
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |s: &str| format!("model.layers.{i}.{s}.weight");
                let (q, kv) = (c.num_attention_heads * e, c.num_key_value_heads * e);
                Block {
                    input_layernorm: b.norm(&at("input_layernorm"), d, eps),
                    self_attn: Attention {
                        q_proj: b.linear(&at("self_attn.q_proj"), d, q),
                        k_proj: b.linear(&at("self_attn.k_proj"), d, kv),
                        v_proj: b.linear(&at("self_attn.v_proj"), d, kv),
                        o_proj: b.linear(&at("self_attn.o_proj"), q, d),
                        heads: c.num_attention_heads,
                        kv_heads: c.num_key_value_heads,
                        head_dim: e,
                    },
                    post_attention_layernorm: b.norm(&at("post_attention_layernorm"), d, eps),
                    mlp: Mlp {
                        gate_proj: b.linear(&at("mlp.gate_proj"), d, c.intermediate_size),
                        up_proj: b.linear(&at("mlp.up_proj"), d, c.intermediate_size),
                        down_proj: b.linear(&at("mlp.down_proj"), c.intermediate_size, d),
                    },
                }
            })
            .collect();
        Self {
            embed_tokens,
            layers,
            norm: b.norm("model.norm.weight", d, eps),
            lm_head: (!c.tie_word_embeddings).then(|| b.linear("lm_head.weight", d, c.vocab_size)),
            rope_theta: c.rope_theta,
        }
    }

    /// The last layer's normed output `[B, T, D]` for ids `[B, T]`.
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, t] = ids.dims();
        let device = ids.device();
        let head_dim = self.layers.first().map_or(2, |l| l.self_attn.head_dim);
        let rotary = Rotary::new(t, head_dim, self.rope_theta, &device);
        let future = Tensor::<2, Bool>::tril_mask([t, t], 0, &device);
        let mut x = self.embed_tokens.forward(ids);
        for layer in &self.layers {
            let n = layer.input_layernorm.forward(x.clone());
            x = x + layer.self_attn.forward(n, &rotary, &future);
            let n = layer.post_attention_layernorm.forward(x.clone());
            x = x + layer.mlp.forward(n);
        }
        self.norm.forward(x)
    }

    /// Logits `[B, T, V]` of a [`hidden`](Self::hidden) output (or a part of its positions).
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => hidden.matmul(self.embed_tokens.weight.val().transpose().unsqueeze()),
        }
    }

    /// Logits `[B, T, V]` for ids `[B, T]`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.hidden(ids))
    }

    /// Calls `f(name, shape, values)` for every tensor, with Hugging Face's names and
    /// layout: matrices first, then the norms.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn for_each_tensor<Err>(
        &self,
        mut f: impl FnMut(&str, &[usize], Vec<f32>) -> Result<(), Err>,
    ) -> Result<(), Err> {
        let mut matrix = |name: &str, w: Tensor<2>| {
            let shape = w.dims();
            f(name, &shape, values(w))
        };
        matrix("model.embed_tokens.weight", self.embed_tokens.weight.val())?;
        for (i, l) in self.layers.iter().enumerate() {
            let at = |s: &str| format!("model.layers.{i}.{s}.weight");
            let (a, m) = (&l.self_attn, &l.mlp);
            for (name, linear) in [
                ("self_attn.q_proj", &a.q_proj),
                ("self_attn.k_proj", &a.k_proj),
                ("self_attn.v_proj", &a.v_proj),
                ("self_attn.o_proj", &a.o_proj),
                ("mlp.gate_proj", &m.gate_proj),
                ("mlp.up_proj", &m.up_proj),
                ("mlp.down_proj", &m.down_proj),
            ] {
                matrix(&at(name), linear.weight.val().transpose())?;
            }
        }
        if let Some(head) = &self.lm_head {
            matrix("lm_head.weight", head.weight.val().transpose())?;
        }
        let mut vector = |name: &str, norm: &RmsNorm| {
            let g = norm.gamma.val();
            let shape = g.dims();
            f(name, &shape, values(g))
        };
        for (i, l) in self.layers.iter().enumerate() {
            let at = |s: &str| format!("model.layers.{i}.{s}.weight");
            vector(&at("input_layernorm"), &l.input_layernorm)?;
            vector(&at("post_attention_layernorm"), &l.post_attention_layernorm)?;
        }
        vector("model.norm.weight", &self.norm)
    }
}

fn values<const N: usize>(t: Tensor<N>) -> Vec<f32> {
    t.into_data()
        .try_into_vec_as()
        .expect("a float tensor's values convert to f32")
}

impl Attention {
    /// `x` `[B, T, D]`, `future` `[T, T]` true where a position must not look.
    fn forward(&self, x: Tensor<3>, rotary: &Rotary, future: &Tensor<2, Bool>) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let (h, k, e) = (self.heads, self.kv_heads, self.head_dim);
        let split = |y: Tensor<3>, n: usize| y.reshape([b, t, n, e]).swap_dims(1, 2);
        let q = rotary.apply(split(self.q_proj.forward(x.clone()), h));
        let key = rotary.apply(split(self.k_proj.forward(x.clone()), k));
        let value = split(self.v_proj.forward(x), k);
        // The G query heads of one key head lie together, so their rows are stacked into
        // one product with it and keys need not be repeated.
        let rows = h / k * t;
        let scores = (q * (1.0 / (e as f64).sqrt()))
            .reshape([b, k, rows, e])
            .matmul(key.swap_dims(2, 3))
            .reshape([b, h, t, t])
            .mask_fill(future.clone().unsqueeze(), f32::NEG_INFINITY);
        let y = activation::softmax(scores, 3)
            .reshape([b, k, rows, t])
            .matmul(value)
            .reshape([b, h, t, e])
            .swap_dims(1, 2)
            .reshape([b, t, h * e]);
        self.o_proj.forward(y)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = activation::silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}
