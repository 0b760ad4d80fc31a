//! A model's tensors, found in the file and held to the configuration before anything runs.
//!
//! Matrices stay where they are, in the mapped file; a [`Weight`] only remembers name, shape and
//! whether its rows lie in panels of sixteen (see [`retort_convert::pack`]).
//! Norms and biases, a few kilobytes, are decoded to f32. Tensor names are llama.cpp's. Every
//! tensor that is missing or misshapen is named in one error.

use super::config::Config;
use retort_format::gguf::Gguf;
use retort_format::gguf::panels::panels_name;
use retort_format::quant::rows16;
use retort_format::{Error, Result};
use retort_kernels::Matrix;

/// A matrix in the mapped file: a tensor or, where several share one, some of its rows.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    name: String,
    panels: bool,
    first_row: usize,
    /// The length of its output.
    pub(super) rows: usize,
}

impl Weight {
    /// The matrix [rows, cols] as the kernels take it.
    pub(super) fn matrix<'g>(&self, gguf: &'g Gguf) -> Result<Matrix<'g>> {
        let tensor = gguf.tensor(&self.name)?;
        let whole = match self.panels {
            true => {
                let (cols, rows) = tensor.shape();
                Matrix::rows16(tensor.ty, rows, cols, tensor.data)
            }
            false => Matrix::from_tensor(tensor),
        };
        whole?.slice(self.first_row, self.rows)
    }
}

impl Weight {
    /// Its bytes in the file.
    pub(super) fn bytes(&self, gguf: &Gguf) -> u64 {
        self.matrix(gguf)
            .map_or(0, |matrix| matrix.data().len() as u64)
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
    /// Every matrix that a token goes through.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Weight> {
        let layers = self.layers.iter().flat_map(|layer| {
            [
                &layer.q,
                &layer.k,
                &layer.v,
                &layer.o,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        });
        layers.chain([&self.output])
    }

    /// Whether every matrix that a token goes through lies in panels.
    pub(super) fn in_panels(&self) -> bool {
        self.matrices().all(|weight| weight.panels)
    }

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
        let own_head = ["output.weight".into(), panels_name("output.weight")];
        let output = match own_head.iter().any(|name: &String| gguf.has_tensor(name)) {
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
            retort_format::error::list(&loader.problems)
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
        let parts = [("q", q), ("k", kv), ("v", kv)];
        let ([q_weight, k_weight, v_weight], qkv_bias) = if config.architecture.fused_qkv() {
            let weights = self.rows_of(&name("attn_qkv.weight"), parts.map(|part| part.1), hidden);
            let bias = self.vector(&name("attn_qkv.bias"), q + kv + kv);
            // Empty where it is missing, which the loader has noted.
            let mut rest = bias.into_iter();
            let bias = parts.map(|(_, size)| rest.by_ref().take(size).collect());
            (weights, Some(bias))
        } else {
            let weights = parts.map(|(part, size)| {
                self.matrix(&name(&format!("attn_{part}.weight")), size, hidden)
            });
            let bias = self.has_bias(config, index).then(|| {
                parts.map(|(part, size)| self.vector(&name(&format!("attn_{part}.bias")), size))
            });
            (weights, bias)
        };
        Layer {
            attn_norm: self.vector(&name("attn_norm.weight"), hidden),
            q: q_weight,
            k: k_weight,
            v: v_weight,
            o: self.matrix(&name("attn_output.weight"), hidden, q),
            qkv_bias,
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

    /// A matrix of this shape, in either layout; on a mismatch, a problem noted.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Weight {
        let in_panels = panels_name(name);
        let panels = !self.gguf.has_tensor(name) && self.gguf.has_tensor(&in_panels);
        let name = if panels { &in_panels } else { name };
        let found = self.check(name, &[cols as u64, rows as u64]);
        let ty = self.gguf.tensor(name).map(|tensor| tensor.ty);
        if panels && found && !ty.is_ok_and(|ty| rows16::fits(ty, rows)) {
            let problem = format!("{name} is no matrix of whole panels in Q4_0, Q4_1 or Q8_0");
            self.problems.push(problem);
        }
        Weight {
            name: name.to_owned(),
            panels,
            first_row: 0,
            rows,
        }
    }

    /// Three matrices that lie one after the other in one tensor.
    fn rows_of(&mut self, name: &str, sizes: [usize; 3], cols: usize) -> [Weight; 3] {
        let whole = self.matrix(name, sizes.iter().sum(), cols);
        let mut first_row = 0;
        sizes.map(|rows| {
            let part = Weight {
                first_row,
                rows,
                ..whole.clone()
            };
            first_row += rows;
            part
        })
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
