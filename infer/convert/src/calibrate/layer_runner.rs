//! All tokens of calibration taken through a layer in f32, by the engine's own forward pass.
//!
//! Shapes: `n` tokens in windows; the residual stream is hidden [n, hidden_size], the input of a layer's next matrices
//! beyond a norm is wide [n, q_size or intermediate_size]. What a layer computes is [`retort_engine::decoder::layer`]; only
//! products are made here, by the `gemm` crate, of some windows at a time.

use std::ops::Range;

use super::weights::{GroupWeights, LayerWeights};
use crate::source::WeightSource;
use retort_engine::decoder::layer::{
    ForwardContext, LayerBuffers, LayerProducts, LayerVectors, LinearGroup,
};
use retort_engine::decoder::{Config, KvCache, KvType, Rope, Sequence};
use retort_format::gguf::names::ROPE_DIVISORS;
use retort_format::{LayerLinear, Result};
use retort_kernels::dense::add_product;
use retort_kernels::pool::Pool;

/// Tokens that go through a product together, at least.
const CHUNK: usize = 2048;

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
