//! A model in turned coordinates, in which no place holds more than others: the rotations of QuaRot (arXiv 2404.00456)
//! and SpinQuant (arXiv 2405.16406) that fold into the weights.
//!
//! In: a parent; out: a GGUF file of the same model in F32, which computes the same function.
//!
//! ```text
//! values   v of each key head turned by R [head_dim]: rows of v and its bias; columns of o, for every head of a group
//! stream   the residual stream turned by R [hidden_size], weights of norms moved into the matrices after them:
//!          W diag(norm) Rᵀ reads it (q k v, gate up, head), R W writes to it (o, down), R row is a token's embedding
//! ```
//!
//! A norm without weights does not see the second. A head that was tied to the embedding table has the last norm's weights
//! and is a matrix of its own from then on.

use std::path::Path;

use super::BLOCK_WEIGHTS;
use super::hadamard::Orthogonal;
use retort_engine::decoder::{Config, Engine};
use retort_format::gguf::{Gguf, TensorView, Writer};
use retort_format::{Error, GgmlType, Result, quant};
use retort_kernels::pool::Pool;

pub(super) const TABLE: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
const LAST_NORM: &str = "output_norm.weight";

/// What is turned before a model is rounded.
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
    fn turns_values(self) -> bool {
        self != Self::Stream
    }

    fn turns_stream(self) -> bool {
        self != Self::Values
    }
}

/// Whether the model of `engine` gets a head of its own by being turned.
pub(super) fn unties(engine: &Engine, rotation: Rotation) -> bool {
    rotation.turns_stream() && !engine.gguf().has_tensor(HEAD)
}

/// Writes the model of `engine`, turned, to `out` in F32.
///
/// # Errors
///
/// [`Error::Unsupported`] for tensors whose part in the model is not known; errors of reading and writing.
pub(super) fn rotate(engine: &Engine, rotation: Rotation, out: &Path) -> Result<()> {
    let (gguf, config) = (engine.gguf(), engine.config());
    let turned = Turned {
        gguf,
        config,
        pool: engine.pool(),
        values: (rotation.turns_values()).then(|| Orthogonal::symmetric(config.head_dim)),
        stream: (rotation.turns_stream()).then(|| Orthogonal::with_signs(config.hidden_size)),
    };
    let mut writer = Writer::new(out);
    for (key, value) in gguf.metadata() {
        if key != "general.alignment" {
            writer.set(key, value.clone())?;
        }
    }
    writer.set("general.file_type", 0u32)?;
    for tensor in gguf.tensors() {
        turned.role(tensor.name)?;
        writer.declare(tensor.name, tensor.dims, GgmlType::F32)?;
    }
    let unties = unties(engine, rotation);
    let table = gguf.tensor(TABLE)?;
    if unties {
        writer.declare(HEAD, table.dims, GgmlType::F32)?;
    }
    for tensor in gguf.tensors() {
        turned.write(&tensor, tensor.name, &mut writer)?;
    }
    if unties {
        turned.write(&table, HEAD, &mut writer)?;
    }
    writer.finish()
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

struct Turned<'a> {
    gguf: &'a Gguf,
    config: &'a Config,
    pool: &'a Pool,
    values: Option<Orthogonal>,
    stream: Option<Orthogonal>,
}

impl Turned<'_> {
    fn role(&self, name: &str) -> Result<Role> {
        match name {
            TABLE => return Ok(Role::Embedding),
            HEAD => return Ok(Role::Reads(LAST_NORM.into(), None)),
            LAST_NORM => return Ok(Role::Norm),
            "rope_freqs.weight" => return Ok(Role::Apart),
            _ => {}
        }
        // the engine has checked the shapes of what it runs, and of nothing else
        let (layer, part) = (name.strip_prefix("blk."))
            .and_then(|rest| rest.split_once('.'))
            .filter(|(layer, _)| (layer.parse()).is_ok_and(|n: usize| n < self.config.n_layers))
            .unwrap_or_default();
        let under =
            |norm: &str, values| Ok(Role::Reads(format!("blk.{layer}.{norm}.weight"), values));
        let before_v = self.config.q_size() + self.config.kv_size();
        let fused = self.config.architecture.fused_qkv();
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
                Err(Error::unsupported(self.gguf.path(), problem))
            }
        }
    }

    /// Writes `tensor` as what the file has under `name`: a table may become a head.
    fn write(&self, tensor: &TensorView, name: &str, writer: &mut Writer) -> Result<()> {
        let role = self.role(name)?;
        if tensor.dims.len() != 2 {
            let mut values = tensor.to_f32()?;
            self.turn_vector(&role, &mut values);
            return write_f32(writer, name, &values);
        }
        let (cols, rows) = tensor.shape();
        let norm = match (&role, &self.stream) {
            (Role::Reads(norm, _), Some(_)) => Some(self.gguf.tensor(norm)?.to_f32()?),
            _ => None,
        };
        // where rows change together, all of them are there at once
        let by_itself = matches!(&role, Role::Embedding | Role::Reads(_, None));
        let step = if by_itself {
            (BLOCK_WEIGHTS / cols).max(1)
        } else {
            rows
        };
        let row_bytes = tensor.data.len() / rows.max(1);
        for data in tensor.data.chunks(step * row_bytes) {
            let mut weights = vec![0.0; data.len() / row_bytes * cols];
            quant::dequantize_row(tensor.ty, data, &mut weights)?;
            self.turn_matrix(&role, norm.as_deref(), cols, &mut weights);
            write_f32(writer, name, &weights)?;
        }
        self.gguf.forget(tensor);
        Ok(())
    }

    fn turn_vector(&self, role: &Role, vector: &mut [f32]) {
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
    fn turn_matrix(&self, role: &Role, norm: Option<&[f32]>, cols: usize, weights: &mut [f32]) {
        if let (Role::Reads(_, Some(first)), Some(values)) = (role, &self.values) {
            let heads = weights[first * cols..].chunks_exact_mut(values.len() * cols);
            heads.for_each(|head| self.turn_rows(values, head, cols));
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
            Role::Attention | Role::Adds => self.turn_rows(stream, weights, cols),
            Role::Norm | Role::Apart => {}
        }
    }

    /// `R W` in place of W [n, cols].
    fn turn_rows(&self, rotation: &Orthogonal, weights: &mut [f32], cols: usize) {
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

fn write_f32(writer: &mut Writer, name: &str, values: &[f32]) -> Result<()> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    quant::quantize_row(GgmlType::F32, values, &mut bytes)?;
    writer.write(name, &bytes)
}
