//! The decoder in f32, one layer at a time over many texts: what calibration measures and rounds against.
//!
//! Shapes: `n` tokens in windows of `context`; the residual stream is hidden [n, hidden_size], what a layer's next
//! matrix is multiplied with beyond a norm is wide [n, q_size or intermediate_size]. Only one layer's weights are in
//! memory, as four sites: matrices that share their input are one, [rows, columns]. Norms, rotary embedding and
//! attention are the engine's own; products are the `gemm` crate's.

use std::ops::Range;

use crate::source::{DIVISORS, SourceTensor, WeightSource};
use retort_engine::decoder::{Cache, Config, KvType, Rope};
use retort_format::Result;
use retort_kernels::dense::add_product;
use retort_kernels::ops;
use retort_kernels::pool::Pool;

/// Tokens that go through a product together, at least.
const CHUNK: usize = 2048;

/// Matrices with the same input.
#[derive(Clone)]
pub(super) struct Site {
    /// Name of the tensor and its rows, one after the other.
    pub(super) parts: Vec<(String, usize)>,
    /// The length of the input.
    pub(super) columns: usize,
    /// [rows of all parts, columns].
    pub(super) weights: Vec<f32>,
}

impl Site {
    fn read(source: &dyn WeightSource, names: &[String]) -> Result<Self> {
        let (mut parts, mut weights, mut columns) = (Vec::new(), Vec::new(), 0);
        for name in names {
            weights.extend(source.whole(name)?);
            let tensor = source.find(name).map(|at| &source.tensors()[at]);
            let rows;
            (columns, rows) = tensor.map_or((0, 0), SourceTensor::shape);
            parts.push((name.clone(), rows));
        }
        Ok(Self {
            parts,
            columns,
            weights,
        })
    }

    /// Rows of all parts.
    pub(super) fn rows(&self) -> usize {
        self.weights.len() / self.columns
    }
}

/// One layer's weights.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) attn_norm: Vec<f32>,
    pub(super) qkv: Site,
    pub(super) bias: Option<Vec<f32>>,
    /// Norms of the heads of q and k.
    head_norms: Option<[Vec<f32>; 2]>,
    pub(super) o: Site,
    pub(super) ffn_norm: Vec<f32>,
    pub(super) gate_up: Site,
    pub(super) down: Site,
}

impl Layer {
    /// Reads layer `index`.
    pub(super) fn read(source: &dyn WeightSource, index: usize) -> Result<Self> {
        let config = source.config();
        let name = |part: &str| format!("blk.{index}.{part}");
        let site = |parts: &[&str]| {
            let names: Vec<_> = (parts.iter())
                .map(|part| name(&format!("{part}.weight")))
                .collect();
            Site::read(source, &names)
        };
        let vector = |part: &str| source.whole(&name(part));
        let (qkv, bias) = match config.architecture.fused_qkv() {
            true => (site(&["attn_qkv"])?, Some(vector("attn_qkv.bias")?)),
            false => {
                let bias = match source.find(&name("attn_q.bias")).is_some() {
                    true => Some(
                        [
                            vector("attn_q.bias")?,
                            vector("attn_k.bias")?,
                            vector("attn_v.bias")?,
                        ]
                        .concat(),
                    ),
                    false => None,
                };
                (site(&["attn_q", "attn_k", "attn_v"])?, bias)
            }
        };
        let head_norms = match config.architecture.qk_norm() {
            true => Some([vector("attn_q_norm.weight")?, vector("attn_k_norm.weight")?]),
            false => None,
        };
        Ok(Self {
            attn_norm: vector("attn_norm.weight")?,
            qkv,
            bias,
            head_norms,
            o: site(&["attn_output"])?,
            ffn_norm: vector("ffn_norm.weight")?,
            gate_up: site(&["ffn_gate", "ffn_up"])?,
            down: site(&["ffn_down"])?,
        })
    }
}

impl Layer {
    /// The norms and biases of layer `index` by their tensors' names.
    pub(super) fn vectors(&self, config: &Config, index: usize) -> Vec<(String, &[f32])> {
        let mut out = vec![
            ("attn_norm.weight", &self.attn_norm[..]),
            ("ffn_norm.weight", &self.ffn_norm[..]),
        ];
        if let Some(bias) = &self.bias {
            match config.architecture.fused_qkv() {
                true => out.push(("attn_qkv.bias", bias)),
                false => out.push(("attn_v.bias", &bias[config.q_size() + config.kv_size()..])),
            }
        }
        out.into_iter()
            .map(|(part, values)| (format!("blk.{index}.{part}"), values))
            .collect()
    }
}

/// What all layers share.
pub(super) struct Shape<'e> {
    pub(super) pool: &'e Pool,
    pub(super) config: Config,
    rope: Rope,
    turns: Vec<Vec<(f32, f32)>>,
    /// Tokens of a window.
    context: usize,
}

impl<'e> Shape<'e> {
    pub(super) fn new(source: &dyn WeightSource, pool: &'e Pool, context: usize) -> Result<Self> {
        let divisors = source.find(DIVISORS).map(|_| source.whole(DIVISORS));
        let divisors = divisors.transpose()?;
        let rope = Rope::new(source.config(), divisors.as_deref(), context);
        // the cache of one layer's attention
        let config = Config {
            n_layers: 1,
            ..source.config().clone()
        };
        Ok(Self {
            pool,
            config,
            turns: (0..context).map(|position| rope.turns(position)).collect(),
            rope,
            context,
        })
    }

    /// Tokens that are computed together, whole windows.
    pub(super) fn chunks(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = CHUNK.next_multiple_of(self.context);
        (0..tokens)
            .step_by(step)
            .map(move |first| first..(first + step).min(tokens))
    }

    /// `input` [n, columns] times the site's matrix, [n, rows].
    fn product(&self, input: &[f32], site: &Site) -> Vec<f32> {
        let (k, n) = (site.columns, site.rows());
        let mut out = vec![0.0; input.len() / k * n];
        add_product(
            self.pool,
            1.0,
            (input, k),
            (&site.weights, k),
            k,
            (&mut out, n),
        );
        out
    }
}

/// Where a site's input comes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// The residual stream under a norm.
    Normed(&'a [f32]),
    /// What attention or the MLP's branches gave.
    Wide,
}

/// All tokens between two layers, or inside one.
pub(super) struct Stream {
    /// The residual stream.
    pub(super) hidden: Vec<f32>,
    wide: Vec<f32>,
}

impl Stream {
    /// The rows of `table` [vocab_size, hidden_size], as it is decoded, of `tokens`.
    pub(super) fn new(
        hidden_size: usize,
        tokens: &[u32],
        row: impl Fn(u32, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let mut hidden = vec![0.0; tokens.len() * hidden_size];
        for (&token, out) in tokens.iter().zip(hidden.chunks_exact_mut(hidden_size)) {
            row(token, out)?;
        }
        Ok(Self {
            hidden,
            wide: Vec::new(),
        })
    }

    /// The first windows of the residual stream, about `tokens` long.
    pub(super) fn first(&self, shape: &Shape, tokens: usize) -> Self {
        let end = tokens.next_multiple_of(shape.context) * shape.config.hidden_size;
        Self {
            hidden: self.hidden[..end.min(self.hidden.len())].to_vec(),
            wide: Vec::new(),
        }
    }

    /// The inputs of a site for some tokens, [tokens, columns].
    pub(super) fn input(&self, shape: &Shape, from: Input, tokens: Range<usize>) -> Vec<f32> {
        match from {
            Input::Wide => {
                let width = self.wide.len() / (self.hidden.len() / shape.config.hidden_size);
                self.wide[tokens.start * width..tokens.end * width].to_vec()
            }
            Input::Normed(weight) => {
                let (width, eps) = (weight.len(), shape.config.rms_norm_eps);
                let x = &self.hidden[tokens.start * width..tokens.end * width];
                let mut out = vec![0.0; x.len()];
                shape.pool.rows(&mut out, width, 64, |token, row| {
                    ops::rms_norm(&x[token * width..(token + 1) * width], weight, eps, row);
                });
                out
            }
        }
    }

    /// Attention, from the residual stream to `wide`.
    pub(super) fn attend(&mut self, shape: &Shape, layer: &Layer) {
        let config = &shape.config;
        let (q_size, kv_size) = (config.q_size(), config.kv_size());
        let n = self.hidden.len() / config.hidden_size;
        self.wide.clear();
        self.wide.resize(n * q_size, 0.0);
        let mut cache = Cache::new(config, KvType::F32);
        for chunk in shape.chunks(n) {
            let input = self.input(shape, Input::Normed(&layer.attn_norm), chunk.clone());
            let qkv = shape.product(&input, &layer.qkv);
            let windows = qkv.chunks(shape.context * (q_size + 2 * kv_size));
            let outs = self.wide[chunk.start * q_size..chunk.end * q_size]
                .chunks_mut(shape.context * q_size);
            for (qkv, out) in windows.zip(outs) {
                let mut parts = [Vec::new(), Vec::new(), Vec::new()];
                for (position, row) in qkv.chunks_exact(q_size + 2 * kv_size).enumerate() {
                    turn(shape, layer, position, row, &mut parts);
                }
                cache.truncate(0);
                cache.append(shape.pool, 0, &parts[1], &parts[2]);
                cache.attend(shape.pool, 0, &parts[0], out);
            }
        }
    }

    /// The MLP's two branches, from the residual stream to `wide`.
    pub(super) fn branch(&mut self, shape: &Shape, layer: &Layer) {
        let (hidden, inner) = (shape.config.hidden_size, shape.config.intermediate_size);
        let n = self.hidden.len() / hidden;
        self.wide.clear();
        self.wide.resize(n * inner, 0.0);
        for chunk in shape.chunks(n) {
            let input = self.input(shape, Input::Normed(&layer.ffn_norm), chunk.clone());
            let both = shape.product(&input, &layer.gate_up);
            let out = &mut self.wide[chunk.start * inner..chunk.end * inner];
            shape.pool.rows(out, inner, 64, |token, row| {
                let (gate, up) = both[token * 2 * inner..(token + 1) * 2 * inner].split_at(inner);
                ops::swiglu(gate, up, row);
            });
        }
    }

    /// Adds `wide` times the site's matrix to the residual stream.
    pub(super) fn add(&mut self, shape: &Shape, site: &Site) {
        let (k, n) = (site.columns, site.rows());
        add_product(
            shape.pool,
            1.0,
            (&self.wide, k),
            (&site.weights, k),
            k,
            (&mut self.hidden, n),
        );
    }
}

/// Appends a token's query, key and value to `parts`, biased, normed and turned.
fn turn(shape: &Shape, layer: &Layer, position: usize, row: &[f32], parts: &mut [Vec<f32>; 3]) {
    let config = &shape.config;
    let (q_size, kv_size) = (config.q_size(), config.kv_size());
    let mut row = row.to_vec();
    if let Some(bias) = &layer.bias {
        ops::axpy(1.0, bias, &mut row);
    }
    let (q, rest) = row.split_at_mut(q_size);
    let (k, v) = rest.split_at_mut(kv_size);
    for (part, row) in [q, k].into_iter().enumerate() {
        if let Some(norms) = &layer.head_norms {
            for head in row.chunks_exact_mut(config.head_dim) {
                ops::rms_norm_in_place(head, &norms[part], config.rms_norm_eps);
            }
        }
        shape.rope.apply(row, &shape.turns[position]);
        parts[part].extend_from_slice(row);
    }
    parts[2].extend_from_slice(v);
}
