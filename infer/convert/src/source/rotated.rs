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
use std::ops::Range;
use std::sync::Arc;

use super::hadamard::Orthogonal;
use super::{DIVISORS, HEAD, SourceTensor, TABLE, WeightSource};
use retort_engine::decoder::Config;
use retort_format::gguf::Metadata;
use retort_format::{Error, Result};
use retort_kernels::pool::Pool;

const LAST_NORM: &str = "output_norm.weight";

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
            && let Some(table) = source.find(TABLE)
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
        let names = rotated.tensors.iter();
        rotated.roles = names
            .map(|t| rotated.role(&t.name))
            .collect::<Result<_>>()?;
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
        self.source.find(TABLE).unwrap_or_default()
    }

    fn role(&self, name: &str) -> Result<Role> {
        match name {
            TABLE => return Ok(Role::Embedding),
            HEAD => return Ok(Role::Reads(LAST_NORM.into(), None)),
            LAST_NORM => return Ok(Role::Norm),
            DIVISORS => return Ok(Role::Apart),
            _ => {}
        }
        // the engine has checked the shapes of what it runs, and of nothing else
        let (layer, part) = (name.strip_prefix("blk."))
            .and_then(|rest| rest.split_once('.'))
            .filter(|(layer, _)| {
                (layer.parse()).is_ok_and(|n: usize| n < self.source.config().n_layers)
            })
            .unwrap_or_default();
        let under =
            |norm: &str, values| Ok(Role::Reads(format!("blk.{layer}.{norm}.weight"), values));
        let config = self.source.config();
        let before_v = config.q_size() + config.kv_size();
        let fused = config.architecture.fused_qkv();
        match part {
            "attn_q.weight" | "attn_k.weight" | "attn_q.bias" | "attn_k.bias" if !fused => {
                under("attn_norm", None)
            }
            "attn_v.weight" | "attn_v.bias" if !fused => under("attn_norm", Some(0)),
            "attn_qkv.weight" | "attn_qkv.bias" if fused => under("attn_norm", Some(before_v)),
            "ffn_gate.weight" | "ffn_up.weight" => under("ffn_norm", None),
            "attn_output.weight" => Ok(Role::Attention),
            "ffn_down.weight" => Ok(Role::Adds),
            "attn_norm.weight" | "ffn_norm.weight" => Ok(Role::Norm),
            "attn_q_norm.weight" | "attn_k_norm.weight" => Ok(Role::Apart),
            _ => {
                let problem = format!(
                    "tensor {name} is none that rotation knows, so the model cannot be rotated; \
                     leave --rotate out"
                );
                Err(Error::unsupported(self.metadata().path(), problem))
            }
        }
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
