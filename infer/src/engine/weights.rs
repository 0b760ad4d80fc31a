//! A model's tensors, found in the file and held to the configuration before anything runs.
//!
//! Matrices stay where they are, in the mapped file; a [`Weight`] only remembers name and shape.
//! Norms and biases, a few kilobytes, are decoded to f32. Tensor names are llama.cpp's. Every
//! tensor that is missing or misshapen is named in one error.

use super::config::Config;
use crate::gguf::Gguf;
use crate::kernels::Matrix;
use crate::{Error, Result};

/// A matrix in the mapped file.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    name: String,
    /// The length of its output.
    pub(super) rows: usize,
}

impl Weight {
    /// The matrix [rows, cols] as the kernels take it.
    pub(super) fn matrix<'g>(&self, gguf: &'g Gguf) -> Result<Matrix<'g>> {
        Matrix::from_tensor(gguf.tensor(&self.name)?)
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attn_norm: Vec<f32>,
    pub(super) q: Weight,
    pub(super) k: Weight,
    pub(super) v: Weight,
    pub(super) o: Weight,
    /// Biases of q, k and v, for architectures that have them.
    pub(super) qkv_bias: Option<[Vec<f32>; 3]>,
    /// Norms of the heads of q and k, for architectures that have them.
    pub(super) qk_norm: Option<[Vec<f32>; 2]>,
    pub(super) ffn_norm: Vec<f32>,
    pub(super) gate: Weight,
    pub(super) up: Weight,
    pub(super) down: Weight,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Weight,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    /// The output projection; the embedding table where the two are tied.
    pub(super) output: Weight,
    /// Divisors of the rotary frequencies [rope_dim / 2], where the file has them.
    pub(super) rope_freqs: Option<Vec<f32>>,
}

impl Weights {
    /// Finds and checks every tensor of `config`.
    pub(super) fn load(gguf: &Gguf, config: &Config) -> Result<Self> {
        if config.n_layers > gguf.tensors().len() {
            let key = format!("{}.block_count", config.architecture.name());
            let problem = format!(
                "{} layers in a file of {} tensors",
                config.n_layers,
                gguf.tensors().len()
            );
            return Err(Error::metadata(gguf.path(), &key, problem));
        }
        let mut loader = Loader {
            gguf,
            problems: Vec::new(),
        };
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let token_embd = loader.matrix("token_embd.weight", vocab, hidden);
        let output = match gguf.has_tensor("output.weight") {
            true => loader.matrix("output.weight", vocab, hidden),
            false => token_embd.clone(),
        };
        let weights = Self {
            token_embd,
            layers: (0..config.n_layers)
                .map(|index| loader.layer(config, index))
                .collect(),
            output_norm: loader.vector("output_norm.weight", hidden),
            output,
            rope_freqs: loader.rope_freqs(config.rope_dim / 2),
        };
        if loader.problems.is_empty() {
            return Ok(weights);
        }
        let problem = format!(
            "the tensors are not those of the {} that its metadata describes: {}",
            config.architecture.name(),
            crate::error::list(&loader.problems)
        );
        Err(Error::unsupported(gguf.path(), problem))
    }
}

/// Collects what is wrong instead of stopping at the first tensor.
struct Loader<'g> {
    gguf: &'g Gguf,
    problems: Vec<String>,
}

impl Loader<'_> {
    fn layer(&mut self, config: &Config, index: usize) -> Layer {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.q_size(), config.kv_size());
        let name = |part: &str| format!("blk.{index}.{part}");
        Layer {
            attn_norm: self.vector(&name("attn_norm.weight"), hidden),
            q: self.matrix(&name("attn_q.weight"), q, hidden),
            k: self.matrix(&name("attn_k.weight"), kv, hidden),
            v: self.matrix(&name("attn_v.weight"), kv, hidden),
            o: self.matrix(&name("attn_output.weight"), hidden, q),
            qkv_bias: self.has_bias(config, index).then(|| {
                [("q", q), ("k", kv), ("v", kv)]
                    .map(|(part, size)| self.vector(&name(&format!("attn_{part}.bias")), size))
            }),
            qk_norm: config.architecture.qk_norm().then(|| {
                ["q", "k"].map(|part| {
                    self.vector(&name(&format!("attn_{part}_norm.weight")), config.head_dim)
                })
            }),
            ffn_norm: self.vector(&name("ffn_norm.weight"), hidden),
            gate: self.matrix(&name("ffn_gate.weight"), inner, hidden),
            up: self.matrix(&name("ffn_up.weight"), inner, hidden),
            down: self.matrix(&name("ffn_down.weight"), hidden, inner),
        }
    }

    /// Biases are used wherever the file has them, and required where the architecture has them.
    fn has_bias(&self, config: &Config, index: usize) -> bool {
        config.architecture.qkv_bias() || self.gguf.has_tensor(&format!("blk.{index}.attn_q.bias"))
    }

    /// A matrix of this shape; on a mismatch, a problem noted.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Weight {
        self.check(name, &[cols as u64, rows as u64]);
        Weight {
            name: name.to_owned(),
            rows,
        }
    }

    /// A vector of this length as f32; on a mismatch, a problem noted and nothing allocated.
    fn vector(&mut self, name: &str, size: usize) -> Vec<f32> {
        if !self.check(name, &[size as u64]) {
            return Vec::new();
        }
        let decoded = self.gguf.tensor(name).and_then(|tensor| tensor.to_f32());
        decoded.unwrap_or_else(|error| {
            self.problems.push(format!("{name}: {error}"));
            Vec::new()
        })
    }

    /// The divisors of the rotary frequencies, if the file has them.
    fn rope_freqs(&mut self, size: usize) -> Option<Vec<f32>> {
        let name = "rope_freqs.weight";
        if !self.gguf.has_tensor(name) {
            return None;
        }
        let divisors = self.vector(name, size);
        if divisors.iter().any(|d| !(d.is_finite() && *d > 0.0)) {
            let problem = format!("{name} holds divisors that are no positive numbers");
            self.problems.push(problem);
        }
        Some(divisors)
    }

    fn check(&mut self, name: &str, wanted: &[u64]) -> bool {
        let found = self.gguf.tensor(name).ok().map(|tensor| tensor.dims);
        match found {
            Some(dims) if dims == wanted => return true,
            Some(dims) => self
                .problems
                .push(format!("{name} has shape {dims:?}, not {wanted:?}")),
            None => self.problems.push(format!("{name} is missing")),
        }
        false
    }
}
