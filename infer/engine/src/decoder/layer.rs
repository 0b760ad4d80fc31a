//! One decoder layer, written once for generation and for calibration.
//!
//! In and out: the residual stream x [n, hidden_size] of n tokens. A layer is four groups of matrices, each multiplied
//! with one input; [`LayerBuffers::input_row`] says what the input is and [`LayerBuffers::step`] what becomes of the
//! products. How products are computed is a [`LayerProducts`].
//! Architecture: Llama (arXiv 2302.13971) with grouped-query attention, and what its relatives add.

use super::config::Config;
use super::sequence::{ChunkAttention, Sequence};
use retort_format::{Architecture, LayerLinear, ParamKey, Result};
use retort_kernels::ops;
use retort_kernels::pool::Pool;

/// Matrices of a layer that are multiplied with the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearGroup {
    /// Queries, keys and values, of the residual stream under a norm.
    Qkv,
    /// The output of attention.
    O,
    /// The two branches of the MLP, of the residual stream under a norm.
    GateUp,
    /// The output of the MLP.
    Down,
}

impl LinearGroup {
    /// In the order of the forward pass.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::O, Self::GateUp, Self::Down];

    /// Its matrices.
    pub fn linears(self) -> &'static [LayerLinear] {
        match self {
            Self::Qkv => &[LayerLinear::Q, LayerLinear::K, LayerLinear::V],
            Self::O => &[LayerLinear::O],
            Self::GateUp => &[LayerLinear::Gate, LayerLinear::Up],
            Self::Down => &[LayerLinear::Down],
        }
    }

    /// Whether its input is the residual stream under a norm.
    pub fn reads_stream(self) -> bool {
        matches!(self, Self::Qkv | Self::GateUp)
    }

    /// The length of its input.
    pub fn input_size(self, config: &Config) -> usize {
        match self {
            Self::Qkv | Self::GateUp => config.hidden_size,
            Self::O => config.q_size(),
            Self::Down => config.intermediate_size,
        }
    }

    /// The group whose input this one's products become; none where they are added to the residual stream.
    pub fn feeds(self) -> Option<Self> {
        match self {
            Self::Qkv => Some(Self::O),
            Self::GateUp => Some(Self::Down),
            Self::O | Self::Down => None,
        }
    }
}

/// A layer's norms and biases.
#[derive(Clone, Debug)]
pub struct LayerVectors {
    /// The norm before q, k and v.
    pub attn_norm: Vec<f32>,
    /// Biases of q, k and v, where the model has them.
    pub qkv_bias: Option<[Vec<f32>; 3]>,
    /// Norms of the heads of q and k, for architectures that have them.
    pub qk_norm: Option<[Vec<f32>; 2]>,
    /// The norm before the MLP.
    pub ffn_norm: Vec<f32>,
}

impl LayerVectors {
    /// Those of layer `index`, `biased` where the file has biases of q, k and v; `vector` reads each.
    ///
    /// # Errors
    ///
    /// Those of `vector`.
    pub fn read<E>(
        architecture: Architecture,
        index: usize,
        biased: bool,
        mut vector: impl FnMut(ParamKey) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        use LayerLinear::{K, Q, V};
        let mut bias = |linear| vector(ParamKey::Bias(index, linear));
        let qkv_bias = if biased {
            Some([bias(Q)?, bias(K)?, bias(V)?])
        } else {
            None
        };
        let qk_norm = if architecture.qk_norm() {
            let q = vector(ParamKey::QNorm(index))?;
            Some([q, vector(ParamKey::KNorm(index))?])
        } else {
            None
        };
        Ok(Self {
            attn_norm: vector(ParamKey::InputNorm(index))?,
            qkv_bias,
            qk_norm,
            ffn_norm: vector(ParamKey::PostNorm(index))?,
        })
    }
}

/// Computes the products of a layer's matrices with an input [n, columns]; errors are those of the kernels.
pub trait LayerProducts {
    /// Multiplies by each matrix [rows, columns] into [n, rows].
    fn project<const N: usize>(&mut self, outputs: [(LayerLinear, &mut Vec<f32>); N])
    -> Result<()>;

    /// Adds the product with one matrix [rows, columns] to `x` [n, rows].
    fn add_product(&mut self, linear: LayerLinear, x: &mut [f32]) -> Result<()>;
}

/// How far each pair of a head is rotated at a position: cosine and sine.
type Rotation = Vec<(f32, f32)>;

/// The tokens of a forward pass: chunks that follow sequences.
pub struct ForwardContext<'a, 's> {
    config: &'a Config,
    pool: &'a Pool,
    /// One for each chunk, or one that all chunks follow, each as if it alone did.
    sequences: &'a mut [&'s mut Sequence],
    /// Tokens of each chunk.
    chunks: Vec<usize>,
    /// Position and rotation of each token.
    rotations: Vec<(usize, Rotation)>,
}

impl<'a, 's> ForwardContext<'a, 's> {
    /// Chunks of so many tokens. Either each of `sequences` has one, in their order, or there is one sequence and each
    /// chunk is as if it alone followed; the last one's keys and values stay in the cache then. Lengths of sequences are
    /// left as they are.
    pub fn new(
        config: &'a Config,
        pool: &'a Pool,
        sequences: &'a mut [&'s mut Sequence],
        chunks: Vec<usize>,
    ) -> Self {
        for sequence in sequences.iter_mut() {
            sequence.truncate(sequence.len);
        }
        let shared = sequences.len() == 1;
        let mut rotations = Vec::with_capacity(chunks.iter().sum());
        for (index, n_tokens) in chunks.iter().enumerate() {
            let sequence = &sequences[if shared { 0 } else { index }];
            let positions = sequence.len..sequence.len + n_tokens;
            rotations.extend(positions.map(|position| (position, sequence.rope.turns(position))));
        }
        Self {
            config,
            pool,
            sequences,
            chunks,
            rotations,
        }
    }
}

/// Activations between a layer's products, kept between passes.
#[derive(Debug, Default)]
pub struct LayerBuffers {
    /// Queries, and what attention gathered [n, q_size].
    q: Vec<f32>,
    attended: Vec<f32>,
    /// Keys and values [n, kv_size].
    k: Vec<f32>,
    v: Vec<f32>,
    /// The MLP's two branches [n, intermediate_size].
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl LayerBuffers {
    /// Writes the input of `group` for token number `token`, whose residual stream is in `x` [n, hidden_size].
    pub fn input_row(
        &self,
        group: LinearGroup,
        config: &Config,
        vectors: &LayerVectors,
        x: &[f32],
        token: usize,
        row: &mut [f32],
    ) {
        let at = token * row.len()..(token + 1) * row.len();
        let eps = config.rms_norm_eps;
        match group {
            LinearGroup::Qkv => ops::rms_norm(&x[at], &vectors.attn_norm, eps, row),
            LinearGroup::O => row.copy_from_slice(&self.attended[at]),
            LinearGroup::GateUp => ops::rms_norm(&x[at], &vectors.ffn_norm, eps, row),
            LinearGroup::Down => ops::swiglu(&self.gate[at.clone()], &self.up[at], row),
        }
    }

    /// Multiplies by the matrices of `group`; `layer` is the layer's number in the caches of the sequences.
    ///
    /// # Errors
    ///
    /// Those of the products.
    pub fn step(
        &mut self,
        group: LinearGroup,
        context: &mut ForwardContext,
        layer: usize,
        vectors: &LayerVectors,
        products: &mut impl LayerProducts,
        x: &mut [f32],
    ) -> Result<()> {
        use LayerLinear::{Down, Gate, K, O, Q, Up, V};
        match group {
            LinearGroup::Qkv => {
                products.project([(Q, &mut self.q), (K, &mut self.k), (V, &mut self.v)])?;
                self.finish_qkv(context, vectors);
                self.attend(context, layer);
                Ok(())
            }
            LinearGroup::O => products.add_product(O, x),
            LinearGroup::GateUp => products.project([(Gate, &mut self.gate), (Up, &mut self.up)]),
            LinearGroup::Down => products.add_product(Down, x),
        }
    }

    /// Biases, norms of heads, rotary embedding.
    fn finish_qkv(&mut self, context: &ForwardContext, vectors: &LayerVectors) {
        let (config, pool) = (context.config, context.pool);
        // which elements of a head form pairs is the same for every sequence
        let Some(rope) = context.sequences.first().map(|sequence| &sequence.rope) else {
            return;
        };
        let (bias, norm) = (vectors.qkv_bias.as_ref(), vectors.qk_norm.as_ref());
        let grain = grain(context.rotations.len(), pool);
        let parts = [
            (&mut self.q, config.q_size()),
            (&mut self.k, config.kv_size()),
        ];
        for (part, (rows, size)) in parts.into_iter().enumerate() {
            pool.rows(rows, size, grain, |token, row| {
                if let Some(bias) = bias {
                    ops::axpy(1.0, &bias[part], row);
                }
                if let Some(norm) = norm {
                    for head in row.chunks_exact_mut(config.head_dim) {
                        ops::rms_norm_in_place(head, &norm[part], config.rms_norm_eps);
                    }
                }
                let (position, rotation) = &context.rotations[token];
                rope.apply(row, rotation);
                let scale = config.past_trained.query_scale(*position);
                if part == 0 && scale != 1.0 {
                    row.iter_mut().for_each(|q| *q *= scale);
                }
            });
        }
        if let Some([_, _, bias]) = bias {
            for row in self.v.chunks_exact_mut(bias.len()) {
                ops::axpy(1.0, bias, row);
            }
        }
    }

    /// Attention of each chunk over its own sequence.
    fn attend(&mut self, context: &mut ForwardContext, layer: usize) {
        let (pool, config) = (context.pool, context.config);
        let (q_size, kv_size) = (config.q_size(), config.kv_size());
        self.attended.resize(self.q.len(), 0.0);
        let mut rest = ChunkAttention {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            out: &mut self.attended,
        };
        let chunks = context.chunks.iter();
        let chunks = chunks.map(|n_tokens| rest.cut(n_tokens * q_size, n_tokens * kv_size));
        if let [sequence] = &mut *context.sequences {
            for mut chunk in chunks.filter(|chunk| !chunk.q.is_empty()) {
                sequence.attend(pool, layer, &mut chunk);
            }
            return;
        }
        // chunks of one token are little work, and each thread takes whole ones
        let (mut single, long): (Vec<_>, Vec<_>) = (context.sequences.iter_mut().zip(chunks))
            .filter(|(_, chunk)| !chunk.q.is_empty())
            .partition(|(_, chunk)| chunk.q.len() == q_size);
        if single.len() < pool.threads() {
            for (sequence, chunk) in &mut single {
                sequence.attend(pool, layer, chunk);
            }
        } else {
            let alone = Pool::single();
            pool.rows(&mut single, 1, 1, |_, part| {
                let (sequence, chunk) = &mut part[0];
                sequence.attend(&alone, layer, chunk);
            });
        }
        for (sequence, mut chunk) in long {
            sequence.attend(pool, layer, &mut chunk);
        }
    }
}

/// Rows that a thread takes at a time where all take about as long.
pub(super) fn grain(rows: usize, pool: &Pool) -> usize {
    rows.div_ceil(pool.threads())
}
