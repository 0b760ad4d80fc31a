//! A model in rotated coordinates, in which no place holds more than others: the rotations of QuaRot (arXiv 2404.00456)
//! and SpinQuant (arXiv 2405.16406) that fold into the weights.
//!
//! In: a source. Out: the same function with other weights, rotated as they are read; later stages see an ordinary model.
//!
//! ```text
//! values   v of each key head rotated by R [head_dim]: rows of v and its bias; columns of o, for every head of a group
//! stream   the residual stream rotated by R [hidden_size], weights of norms moved into the matrices after them:
//!          W diag(norm) Rᵀ reads it (q k v, gate up, head), R W writes to it (o, down), R row is a token's embedding
//! ```
//!
//! A norm without weights does not see the second. A head that was tied to the embedding table gets the last norm's weights
//! and becomes a matrix of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::hadamard::Orthogonal;
use super::weight_source::{SourceTensor, WeightSource};
use retort_engine::decoder::Config;
use retort_format::gguf::Metadata;
use retort_format::gguf::names::{EMBEDDING, HEAD, ROPE_DIVISORS};
use retort_format::{
    Error, LayerLinear, ModelConfig, ParamKey, Result, TensorSpec, gguf_tensors,
    optional_gguf_tensors,
};
use retort_kernels::pool::Pool;

/// What is rotated before a model is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The values of each head (QuaRot's and SpinQuant's R2): as many bytes as without
    Values,
    /// The residual stream (R1): a head tied to the embedding table becomes a matrix of its own, which is more bytes
    Stream,
    /// The two
    Both,
}

impl Rotation {
    fn rotates_values(self) -> bool {
        self != Self::Stream
    }

    fn rotates_stream(self) -> bool {
        self != Self::Values
    }
}

/// What a tensor is to the residual stream and to the values.
enum Role {
    /// Rows are vectors of the stream.
    Embedding,
    /// A matrix that reads the stream under the norm of this name, or a bias of such; its rows from the second on, if
    /// there is one, are values.
    Reads(String, Option<usize>),
    /// What attention adds: from values to the stream.
    Attention,
    /// What the MLP adds.
    Adds,
    /// A norm over the stream.
    Norm,
    /// Neither.
    Apart,
}

/// See the module.
pub struct RotatedSource {
    source: Box<dyn WeightSource>,
    pool: Arc<Pool>,
    values: Option<Orthogonal>,
    stream: Option<Orthogonal>,
    tensors: Vec<SourceTensor>,
    roles: Vec<Role>,
    /// The last tensor whose rows change together, by its number.
    whole: RefCell<Option<(usize, Vec<f32>)>>,
}

impl RotatedSource {
    /// `source` rotated, computed by `pool`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for tensors whose part in the model is not known.
    pub fn new(source: Box<dyn WeightSource>, rotation: Rotation, pool: Arc<Pool>) -> Result<Self> {
        let config = source.config();
        let values = rotation.rotates_values();
        let stream = rotation.rotates_stream();
        let mut tensors = source.tensors().to_vec();
        if stream
            && source.find(HEAD).is_none()
            && let Some(table) = source.find(EMBEDDING)
        {
            tensors.push(SourceTensor {
                name: HEAD.to_owned(),
                dims: tensors[table].dims.clone(),
            });
        }
        let mut rotated = Self {
            values: values.then(|| Orthogonal::symmetric(config.head_dim)),
            stream: stream.then(|| Orthogonal::with_signs(config.hidden_size)),
            pool,
            source,
            tensors,
            roles: Vec::new(),
            whole: RefCell::default(),
        };
        // the engine has checked the shapes of what it runs, and of nothing else
        let model = rotated.config().model_config(false);
        let specs = [gguf_tensors(&model), optional_gguf_tensors(&model)].concat();
        let roles = specs
            .iter()
            .filter_map(|spec| Some((spec.gguf_name(&model), role(spec, &model)?)));
        let mut roles: HashMap<_, _> = roles.collect();
        roles.insert(ROPE_DIVISORS.to_owned(), Role::Apart);
        for tensor in &rotated.tensors {
            let Some(role) = roles.remove(&tensor.name) else {
                let problem = format!(
                    "tensor {} is none that rotation knows, so the model cannot be rotated; \
                     leave --rotate out",
                    tensor.name
                );
                return Err(Error::unsupported(rotated.metadata().path(), problem));
            };
            rotated.roles.push(role);
        }
        Ok(rotated)
    }

    /// Whether the head was tied to the embedding table and is a matrix of its own now.
    pub fn unties(&self) -> bool {
        self.tensors.len() > self.source.tensors().len()
    }

    /// The tensor of the source that tensor number `tensor` is made of.
    fn origin(&self, tensor: usize) -> usize {
        if tensor < self.source.tensors().len() {
            return tensor;
        }
        self.source.find(EMBEDDING).unwrap_or_default()
    }

    fn rotate_vector(&self, role: &Role, vector: &mut [f32]) {
        match (role, &self.stream, &self.values) {
            (Role::Norm, Some(_), _) => vector.fill(1.0),
            (Role::Reads(_, Some(first)), _, Some(values)) => {
                let heads = vector[*first..].chunks_exact_mut(values.len());
                heads.for_each(|head| values.apply(head));
            }
            _ => {}
        }
    }

    /// `weights` [rows, cols], all rows of the tensor where they are not [`Role::Embedding`] or read without values.
    fn rotate_matrix(&self, role: &Role, norm: Option<&[f32]>, cols: usize, weights: &mut [f32]) {
        if let (Role::Reads(_, Some(first)), Some(values)) = (role, &self.values) {
            let heads = weights[first * cols..].chunks_exact_mut(values.len() * cols);
            heads.for_each(|head| self.rotate_rows(values, head, cols));
        }
        if let (Role::Attention, Some(values)) = (role, &self.values) {
            self.pool
                .rows(weights, values.len(), 64, |_, head| values.apply(head));
        }
        let Some(stream) = &self.stream else {
            return;
        };
        match role {
            Role::Embedding => self.pool.rows(weights, cols, 8, |_, row| stream.apply(row)),
            Role::Reads(..) => self.pool.rows(weights, cols, 8, |_, row| {
                let norm = norm.iter().copied().flatten();
                row.iter_mut().zip(norm).for_each(|(w, norm)| *w *= norm);
                stream.apply(row);
            }),
            Role::Attention | Role::Adds => self.rotate_rows(stream, weights, cols),
            Role::Norm | Role::Apart => {}
        }
    }

    /// `R W` in place of W [n, cols].
    fn rotate_rows(&self, rotation: &Orthogonal, weights: &mut [f32], cols: usize) {
        let n = rotation.len();
        let mut columns = vec![0.0; weights.len()];
        self.pool.rows(&mut columns, n, 8, |at, column| {
            for (out, row) in column.iter_mut().zip(weights.chunks_exact(cols)) {
                *out = row[at];
            }
            rotation.apply(column);
        });
        self.pool.rows(weights, cols, 8, |at, row| {
            for (out, column) in row.iter_mut().zip(columns.chunks_exact(n)) {
                *out = column[at];
            }
        });
    }
}

/// What a tensor of `model` is; none for one that the engine does not run.
fn role(spec: &TensorSpec, model: &ModelConfig) -> Option<Role> {
    use LayerLinear::{Down, Gate, K, O, Q, Up, V};
    let reads = |norm: ParamKey| {
        let is_value = |key| matches!(key, ParamKey::Weight(_, V) | ParamKey::Bias(_, V));
        let mut parts = spec.parts.iter();
        let values = parts.find(|(key, _)| is_value(*key));
        Role::Reads(norm.gguf_tensor(model), values.map(|(_, rows)| rows.start))
    };
    Some(match spec.parts[0].0 {
        ParamKey::Embedding => Role::Embedding,
        ParamKey::Head => reads(ParamKey::FinalNorm),
        ParamKey::FinalNorm | ParamKey::InputNorm(_) | ParamKey::PostNorm(_) => Role::Norm,
        ParamKey::QNorm(_) | ParamKey::KNorm(_) => Role::Apart,
        ParamKey::Weight(layer, Q | K | V) | ParamKey::Bias(layer, Q | K | V) => {
            reads(ParamKey::InputNorm(layer))
        }
        ParamKey::Weight(layer, Gate | Up) => reads(ParamKey::PostNorm(layer)),
        ParamKey::Weight(_, O) => Role::Attention,
        ParamKey::Weight(_, Down) => Role::Adds,
        ParamKey::Bias(..) => return None,
    })
}

impl WeightSource for RotatedSource {
    fn metadata(&self) -> &Metadata {
        self.source.metadata()
    }

    fn config(&self) -> &Config {
        self.source.config()
    }

    fn tensors(&self) -> &[SourceTensor] {
        &self.tensors
    }

    fn label(&self, tensor: usize) -> &str {
        self.source.label(self.origin(tensor))
    }

    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (role, origin) = (&self.roles[tensor], self.origin(tensor));
        if !self.tensors[tensor].is_matrix() {
            self.source.rows(origin, rows, out)?;
            self.rotate_vector(role, out);
            return Ok(());
        }
        let (cols, all) = self.tensors[tensor].shape();
        let norm = match (role, &self.stream) {
            (Role::Reads(norm, _), Some(_)) => Some(self.source.whole(norm)?),
            _ => None,
        };
        // Where rows change together, all of them are read at once.
        let by_itself = matches!(role, Role::Embedding | Role::Reads(_, None) | Role::Apart);
        if by_itself || rows == (0..all) {
            self.source.rows(origin, rows, out)?;
            self.rotate_matrix(role, norm.as_deref(), cols, out);
            return Ok(());
        }
        let mut whole = self.whole.borrow_mut();
        let weights = match &mut *whole {
            Some((at, weights)) if *at == tensor => weights,
            last => {
                let mut weights = Vec::new();
                self.source.rows(origin, 0..all, &mut weights)?;
                self.rotate_matrix(role, norm.as_deref(), cols, &mut weights);
                &mut last.insert((tensor, weights)).1
            }
        };
        out.clear();
        out.extend_from_slice(&weights[rows.start * cols..rows.end * cols]);
        Ok(())
    }
}
