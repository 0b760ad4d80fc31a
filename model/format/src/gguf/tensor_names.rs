//! The tensors of a decoder under both of their names, GGUF's and Hugging Face's.
//!
//! In: the sizes of a model; out: one [`Entry`] per tensor, in the order of a GGUF file. Export
//! and import both go by this list, so that what one writes the other reads. Names and the order
//! of rows follow llama.cpp's `convert_hf_to_gguf.py` and `gguf-py`'s tensor map; Hugging Face
//! names those of `transformers` and, for `qwen`, of Qwen's own published code.

use crate::{Architecture, RopePairs};

/// What decides which tensors a model has, and their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// The architecture.
    pub architecture: Architecture,
    /// Layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// The inner width of the MLP; `qwen` files and configurations hold twice this.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Whether the output projection is the embedding table.
    pub tied: bool,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding table or the output projection.
    Vocabulary,
    /// A matrix of a layer.
    Matrix,
    /// A norm or a bias.
    Vector,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in a GGUF file.
    pub gguf: String,
    /// Its name in a Hugging Face directory.
    pub hf: String,
    /// What the tensor is for.
    pub role: Role,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Weights in a row.
    pub cols: usize,
    /// For q and k of architectures with adjacent rotary pairs, the rows of a head: a GGUF file
    /// has its two halves interleaved, a Hugging Face directory one after the other.
    pub interleaved: Option<usize>,
}

impl Entry {
    /// The number of weights.
    pub fn weights(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// The shape in a GGUF file, contiguous dimension first.
    pub fn gguf_shape(&self) -> Vec<u64> {
        self.hf_shape()
            .iter()
            .rev()
            .map(|&dim| dim as u64)
            .collect()
    }

    /// The shape in a Hugging Face directory, contiguous dimension last.
    pub fn hf_shape(&self) -> Vec<usize> {
        match self.role {
            Role::Vector => vec![self.cols],
            _ => vec![self.rows, self.cols],
        }
    }
}

/// Every tensor of a model of these dimensions.
pub fn tensors(dimensions: &Dimensions) -> Vec<Entry> {
    let mut list = List {
        dimensions,
        entries: Vec::new(),
    };
    let (hidden, vocab) = (dimensions.hidden_size, dimensions.vocab_size);
    let [embeddings, norm] = match dimensions.architecture {
        Architecture::Qwen => ["transformer.wte", "transformer.ln_f"],
        _ => ["model.embed_tokens", "model.norm"],
    };
    let vocabulary = (Role::Vocabulary, vocab, hidden);
    list.add(
        "token_embd.weight",
        &format!("{embeddings}.weight"),
        vocabulary,
    );
    for layer in 0..dimensions.n_layers {
        list.layer(layer);
    }
    let vector = (Role::Vector, 1, hidden);
    list.add("output_norm.weight", &format!("{norm}.weight"), vector);
    if !dimensions.tied {
        list.add("output.weight", "lm_head.weight", vocabulary);
    }
    list.entries
}

struct List<'d> {
    dimensions: &'d Dimensions,
    entries: Vec<Entry>,
}

impl List<'_> {
    fn add(&mut self, gguf: &str, hf: &str, (role, rows, cols): (Role, usize, usize)) {
        let turned = gguf.ends_with("attn_q.weight") || gguf.ends_with("attn_k.weight");
        let adjacent = self.dimensions.architecture.rope_pairs() == RopePairs::Adjacent;
        self.entries.push(Entry {
            gguf: gguf.to_owned(),
            hf: hf.to_owned(),
            role,
            rows,
            cols,
            interleaved: (turned && adjacent).then_some(self.dimensions.head_dim),
        });
    }

    fn layer(&mut self, layer: usize) {
        let d = self.dimensions;
        let (q, kv) = (d.n_heads * d.head_dim, d.n_kv_heads * d.head_dim);
        let (hidden, inner) = (d.hidden_size, d.intermediate_size);
        let matrix = |rows, cols| (Role::Matrix, rows, cols);
        let vector = |size| (Role::Vector, 1, size);
        let qwen = d.architecture == Architecture::Qwen;
        let mut add = |gguf: &str, hf: &str, shape| {
            let stem = if qwen {
                "transformer.h"
            } else {
                "model.layers"
            };
            let gguf = format!("blk.{layer}.{gguf}");
            self.add(&gguf, &format!("{stem}.{layer}.{hf}"), shape);
        };
        if qwen {
            add(
                "attn_qkv.weight",
                "attn.c_attn.weight",
                matrix(q + kv + kv, hidden),
            );
            add("attn_qkv.bias", "attn.c_attn.bias", vector(q + kv + kv));
            add(
                "attn_output.weight",
                "attn.c_proj.weight",
                matrix(hidden, q),
            );
            add("ffn_gate.weight", "mlp.w2.weight", matrix(inner, hidden));
            add("ffn_up.weight", "mlp.w1.weight", matrix(inner, hidden));
            add(
                "ffn_down.weight",
                "mlp.c_proj.weight",
                matrix(hidden, inner),
            );
            add("attn_norm.weight", "ln_1.weight", vector(hidden));
            add("ffn_norm.weight", "ln_2.weight", vector(hidden));
            return;
        }
        for (part, rows) in [("q", q), ("k", kv), ("v", kv)] {
            let (gguf, hf) = (format!("attn_{part}"), format!("self_attn.{part}_proj"));
            add(
                &format!("{gguf}.weight"),
                &format!("{hf}.weight"),
                matrix(rows, hidden),
            );
            if d.architecture.qkv_bias() {
                add(&format!("{gguf}.bias"), &format!("{hf}.bias"), vector(rows));
            }
        }
        add(
            "attn_output.weight",
            "self_attn.o_proj.weight",
            matrix(hidden, q),
        );
        add(
            "ffn_gate.weight",
            "mlp.gate_proj.weight",
            matrix(inner, hidden),
        );
        add("ffn_up.weight", "mlp.up_proj.weight", matrix(inner, hidden));
        add(
            "ffn_down.weight",
            "mlp.down_proj.weight",
            matrix(hidden, inner),
        );
        add("attn_norm.weight", "input_layernorm.weight", vector(hidden));
        add(
            "ffn_norm.weight",
            "post_attention_layernorm.weight",
            vector(hidden),
        );
        if d.architecture.qk_norm() {
            add(
                "attn_q_norm.weight",
                "self_attn.q_norm.weight",
                vector(d.head_dim),
            );
            add(
                "attn_k_norm.weight",
                "self_attn.k_norm.weight",
                vector(d.head_dim),
            );
        }
    }
}
