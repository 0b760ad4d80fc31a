//! One layer in f32 over all tokens of calibration, computed by the engine's own forward pass.
//!
//! Shapes: `n` tokens in windows; the residual stream is hidden [n, hidden_size], the input of a layer's next matrices
//! beyond a norm is wide [n, q_size or intermediate_size]. Only one layer's weights are in memory, as four groups:
//! matrices that share their input are one, [rows, columns]. What a layer computes is
//! [`retort_engine::decoder::layer`]; only products are made here, by the `gemm` crate, of some windows at a time.

use std::ops::Range;

use crate::source::{SourceTensor, WeightSource};
use retort_engine::decoder::layer::{
    ForwardContext, LayerBuffers, LayerProducts, LayerVectors, LinearGroup,
};
use retort_engine::decoder::{Config, KvCache, KvType, Rope, Sequence};
use retort_format::gguf::names::ROPE_DIVISORS;
use retort_format::{LayerLinear, ModelConfig, ParamKey, Result};
use retort_kernels::dense::add_product;
use retort_kernels::pool::Pool;

/// Tokens that go through a product together, at least.
const CHUNK: usize = 2048;

/// The matrices of a [`LinearGroup`].
#[derive(Clone)]
pub(super) struct GroupWeights {
    /// Name of each tensor and its rows, one after the other.
    pub(super) tensors: Vec<(String, usize)>,
    /// The rows of each matrix, several of which may be one tensor.
    linears: Vec<(LayerLinear, Range<usize>)>,
    /// The length of the input.
    pub(super) columns: usize,
    /// [rows of all matrices, columns].
    pub(super) weights: Vec<f32>,
}

impl GroupWeights {
    fn read(
        source: &dyn WeightSource,
        model: &ModelConfig,
        layer: usize,
        group: LinearGroup,
    ) -> Result<Self> {
        let mut out = Self {
            tensors: Vec::new(),
            linears: Vec::new(),
            columns: group.input_size(source.config()),
            weights: Vec::new(),
        };
        let mut first = 0;
        for &linear in group.linears() {
            let end = first + linear.dims(model)[1];
            out.linears.push((linear, first..end));
            first = end;
            let name = ParamKey::Weight(layer, linear).gguf_tensor(model);
            if out.tensors.last().is_some_and(|(last, _)| *last == name) {
                continue;
            }
            out.weights.extend(source.whole(&name)?);
            let tensor = source.find(&name).map(|at| &source.tensors()[at]);
            let (_, rows) = tensor.map_or((0, 0), SourceTensor::shape);
            out.tensors.push((name, rows));
        }
        Ok(out)
    }

    /// The rows of one matrix.
    fn rows(&self, linear: LayerLinear) -> Range<usize> {
        let found = self.linears.iter().find(|(other, _)| *other == linear);
        found.map_or(0..0, |(_, rows)| rows.clone())
    }

    /// Where the weights of one matrix are, [rows, columns].
    pub(super) fn matrix(&self, linear: LayerLinear) -> Range<usize> {
        let rows = self.rows(linear);
        rows.start * self.columns..rows.end * self.columns
    }
}

/// One layer's weights.
#[derive(Clone)]
pub(super) struct LayerWeights {
    pub(super) vectors: LayerVectors,
    /// In the order of [`LinearGroup::ALL`].
    groups: [GroupWeights; 4],
}

impl LayerWeights {
    /// Reads layer `index`.
    pub(super) fn read(source: &dyn WeightSource, index: usize) -> Result<Self> {
        let model = source.model_config();
        let read = |group| GroupWeights::read(source, &model, index, group);
        let [qkv, o, gate_up, down] = LinearGroup::ALL;
        let groups = [read(qkv)?, read(o)?, read(gate_up)?, read(down)?];
        let query_bias = ParamKey::Bias(index, LayerLinear::Q).gguf_tensor(&model);
        let biased = source.find(&query_bias).is_some();
        let vectors = LayerVectors::read(model.model_type, index, biased, |key| {
            let values = source.whole(&key.gguf_tensor(&model))?;
            Ok(match key {
                ParamKey::Bias(_, linear) if model.model_type.fused_qkv() => {
                    values[groups[0].rows(linear)].to_vec()
                }
                _ => values,
            })
        })?;
        Ok(Self { vectors, groups })
    }

    /// The matrices of `group`.
    pub(super) fn group(&self, group: LinearGroup) -> &GroupWeights {
        &self.groups[group as usize]
    }

    /// The matrices of `group`, to be changed.
    pub(super) fn group_mut(&mut self, group: LinearGroup) -> &mut GroupWeights {
        &mut self.groups[group as usize]
    }

    /// The norms and biases of layer `index` that calibration may change, by their tensors' names.
    pub(super) fn changed_vectors(
        &self,
        model: &ModelConfig,
        index: usize,
    ) -> Vec<(String, Vec<f32>)> {
        let vectors = changed_vectors(index).into_iter().filter_map(|key| {
            let values = match (key, &self.vectors.qkv_bias) {
                (ParamKey::InputNorm(_), _) => self.vectors.attn_norm.clone(),
                (ParamKey::PostNorm(_), _) => self.vectors.ffn_norm.clone(),
                (_, Some(biases)) if model.model_type.fused_qkv() => biases.concat(),
                (_, Some([_, _, v])) => v.clone(),
                (_, None) => return None,
            };
            Some((key.gguf_tensor(model), values))
        });
        vectors.collect()
    }
}

/// The norms and biases of a layer that calibration may change.
pub(super) fn changed_vectors(layer: usize) -> [ParamKey; 3] {
    [
        ParamKey::InputNorm(layer),
        ParamKey::PostNorm(layer),
        ParamKey::Bias(layer, LayerLinear::V),
    ]
}

/// Products of an input [n, columns] with the matrices of a group, in f32.
struct DenseProducts<'a> {
    pool: &'a Pool,
    group: &'a GroupWeights,
    input: Vec<f32>,
}

impl LayerProducts for DenseProducts<'_> {
    fn project<const N: usize>(
        &mut self,
        outputs: [(LayerLinear, &mut Vec<f32>); N],
    ) -> Result<()> {
        let n_tokens = self.input.len() / self.group.columns;
        for (linear, out) in outputs {
            out.clear();
            out.resize(n_tokens * self.group.rows(linear).len(), 0.0);
            self.add_product(linear, out)?;
        }
        Ok(())
    }

    fn add_product(&mut self, linear: LayerLinear, x: &mut [f32]) -> Result<()> {
        let k = self.group.columns;
        let weights = &self.group.weights[self.group.matrix(linear)];
        let n = weights.len() / k;
        add_product(self.pool, 1.0, (&self.input, k), (weights, k), k, (x, n));
        Ok(())
    }
}

/// All tokens between two layers, or inside one.
pub(super) struct Stream {
    /// The residual stream.
    pub(super) hidden: Vec<f32>,
    /// What attention or the MLP's branches gave: the input of the next matrices.
    wide: Vec<f32>,
}

impl Stream {
    /// The rows of a table [vocab_size, hidden_size] of `tokens`.
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
}

/// Takes all tokens through a layer, a group of matrices at a time.
pub(super) struct LayerRunner<'e> {
    pub(super) pool: &'e Pool,
    /// Of a model of one layer.
    pub(super) config: Config,
    rope: Rope,
    /// Tokens of a window, which is a sequence of its own.
    window: usize,
}

impl<'e> LayerRunner<'e> {
    pub(super) fn new(source: &dyn WeightSource, pool: &'e Pool, window: usize) -> Result<Self> {
        let divisors = source
            .find(ROPE_DIVISORS)
            .map(|_| source.whole(ROPE_DIVISORS));
        let divisors = divisors.transpose()?;
        Ok(Self {
            pool,
            rope: Rope::new(source.config(), divisors.as_deref(), window),
            config: Config {
                n_layers: 1,
                ..source.config().clone()
            },
            window,
        })
    }

    /// The number of tokens in `stream`.
    pub(super) fn tokens(&self, stream: &Stream) -> usize {
        stream.hidden.len() / self.config.hidden_size
    }

    /// The first windows of a residual stream, about `tokens` long.
    pub(super) fn first(&self, stream: &Stream, tokens: usize) -> Stream {
        let end = tokens.next_multiple_of(self.window) * self.config.hidden_size;
        Stream {
            hidden: stream.hidden[..end.min(stream.hidden.len())].to_vec(),
            wide: Vec::new(),
        }
    }

    /// Tokens that are computed together, whole windows.
    fn chunks(&self, stream: &Stream) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tokens, step) = (self.tokens(stream), CHUNK.next_multiple_of(self.window));
        (0..tokens)
            .step_by(step)
            .map(move |first| first..(first + step).min(tokens))
    }

    /// Hands the inputs of `group` [tokens, columns], some windows at a time, to `visit`, which may change them.
    pub(super) fn each_input(
        &self,
        stream: &Stream,
        vectors: &LayerVectors,
        group: LinearGroup,
        mut visit: impl FnMut(&mut [f32]),
    ) {
        for tokens in self.chunks(stream) {
            visit(&mut self.input(stream, vectors, group, tokens));
        }
    }

    /// The inputs of `group` for some tokens, [tokens, columns].
    fn input(
        &self,
        stream: &Stream,
        vectors: &LayerVectors,
        group: LinearGroup,
        tokens: Range<usize>,
    ) -> Vec<f32> {
        let width = group.input_size(&self.config);
        let at = |width: usize| tokens.start * width..tokens.end * width;
        if !group.reads_stream() {
            return stream.wide[at(width)].to_vec();
        }
        let mut out = vec![0.0; tokens.len() * width];
        let x = &stream.hidden[at(self.config.hidden_size)];
        self.fill_input(&LayerBuffers::default(), vectors, group, x, &mut out);
        out
    }

    fn fill_input(
        &self,
        buffers: &LayerBuffers,
        vectors: &LayerVectors,
        group: LinearGroup,
        x: &[f32],
        out: &mut [f32],
    ) {
        let width = group.input_size(&self.config);
        self.pool.rows(out, width, 64, |token, row| {
            buffers.input_row(group, &self.config, vectors, x, token, row);
        });
    }

    /// Takes all tokens through the matrices of `group` and what follows them: to the input of the next ones, or back to
    /// the residual stream.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub(super) fn step(
        &self,
        stream: &mut Stream,
        layer: &LayerWeights,
        group: LinearGroup,
    ) -> Result<()> {
        let (vectors, pool) = (&layer.vectors, self.pool);
        let next = group.feeds();
        if let Some(next) = next {
            let width = next.input_size(&self.config);
            stream.wide.clear();
            stream.wide.resize(self.tokens(stream) * width, 0.0);
        }
        let cache = KvCache::new(&self.config, KvType::F32);
        let mut sequence = Sequence::new(self.rope.clone(), cache);
        for tokens in self.chunks(stream) {
            let mut products = DenseProducts {
                pool,
                group: layer.group(group),
                input: self.input(stream, vectors, group, tokens.clone()),
            };
            let windows = vec![self.window; tokens.len() / self.window];
            let sequences = &mut [&mut sequence];
            let mut context = ForwardContext::new(&self.config, pool, sequences, windows);
            let mut buffers = LayerBuffers::default();
            let at = |width: usize| tokens.start * width..tokens.end * width;
            let x = &mut stream.hidden[at(self.config.hidden_size)];
            buffers.step(group, &mut context, 0, vectors, &mut products, x)?;
            if let Some(next) = next {
                let out = &mut stream.wide[at(next.input_size(&self.config))];
                self.fill_input(&buffers, vectors, next, x, out);
            }
        }
        Ok(())
    }
}
