//! Which tensors go into the file: from which of the checkpoint, in which shape, type and row order.
//!
//! In: config.json and the checkpoint's headers; out: one [`Planned`] per tensor of the file. All
//! that is missing, misshapen or left over is named in one error before anything is written.
//! Names and the reordering of q and k follow llama.cpp's `convert_hf_to_gguf.py`.

use std::collections::BTreeSet;
use std::path::Path;

use super::checkpoint::Checkpoint;
use super::config::HfConfig;
use crate::engine::RopePairs;
use crate::{Error, GgmlType, Result};

/// A tensor of the file to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Its name in the GGUF file.
    pub(super) name: String,
    /// Its name in the checkpoint.
    pub(super) source: String,
    /// Rows; 1 for a vector.
    pub(super) rows: usize,
    /// Weights in a row.
    pub(super) cols: usize,
    /// Whether it is a vector, stored with one dimension.
    pub(super) vector: bool,
    /// The type it is stored in.
    pub(super) ty: GgmlType,
    /// For q and k of a file with adjacent rotary pairs: the rows of each head, reordered so that
    /// the two halves of a head interleave.
    pub(super) interleave: Option<usize>,
}

impl Planned {
    /// The number of weights.
    pub(super) fn weights(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// The GGUF shape, contiguous dimension first.
    pub(super) fn dims(&self) -> Vec<u64> {
        let cols = self.cols as u64;
        if self.vector {
            vec![cols]
        } else {
            vec![cols, self.rows as u64]
        }
    }
}

/// The whole file, tensor by tensor.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) tensors: Vec<Planned>,
    /// Matrices whose rows do not divide into blocks, stored as F16 instead.
    pub(super) not_quantized: Vec<String>,
}

impl Plan {
    /// Plans the export of `checkpoint` in `dir` at `quant`.
    pub(super) fn new(
        dir: &Path,
        config: &HfConfig,
        checkpoint: &Checkpoint,
        quant: GgmlType,
    ) -> Result<Self> {
        if config.n_layers > checkpoint.len() {
            let problem = format!(
                "config.json has {} layers, the checkpoint only {} tensors",
                config.n_layers,
                checkpoint.len()
            );
            return Err(Error::unsupported(dir, problem));
        }
        let mut builder = Builder {
            quant,
            embeddings: if quant == GgmlType::Q4_0 {
                GgmlType::Q8_0
            } else {
                quant
            },
            plan: Plan {
                tensors: Vec::new(),
                not_quantized: Vec::new(),
            },
        };
        builder.model(config);
        builder.plan.check(dir, config, checkpoint)?;
        Ok(builder.plan)
    }

    /// Holds the plan to the checkpoint: everything there, of the right shape, and nothing else.
    fn check(&self, dir: &Path, config: &HfConfig, checkpoint: &Checkpoint) -> Result<()> {
        let mut problems = Vec::new();
        let mut known = BTreeSet::new();
        for planned in &self.tensors {
            known.insert(planned.source.as_str());
            let wanted = match planned.vector {
                true => vec![planned.cols],
                false => vec![planned.rows, planned.cols],
            };
            match checkpoint.get(&planned.source) {
                None => problems.push(format!("{} is missing", planned.source)),
                Some(entry) if entry.shape != wanted => problems.push(format!(
                    "{} has shape {:?}, not {wanted:?}",
                    planned.source, entry.shape
                )),
                Some(_) => {}
            }
        }
        for name in checkpoint.names() {
            let tied_copy = config.tie_word_embeddings && name == "lm_head.weight";
            let derived = name.ends_with("rotary_emb.inv_freq");
            if !known.contains(name) && !tied_copy && !derived {
                problems.push(format!("{name} has no place in it"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let model = config.architecture.name();
        let problem = format!(
            "the tensors are not those of the {model} in config.json: {}",
            crate::error::list(&problems)
        );
        Err(Error::unsupported(dir, problem))
    }
}

struct Builder {
    quant: GgmlType,
    embeddings: GgmlType,
    plan: Plan,
}

impl Builder {
    fn model(&mut self, config: &HfConfig) {
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embeddings = self.embeddings;
        self.matrix(
            "token_embd.weight".into(),
            "model.embed_tokens.weight".into(),
            (vocab, hidden),
            embeddings,
            None,
        );
        for layer in 0..config.n_layers {
            self.layer(config, layer);
        }
        let norm = "output_norm.weight".to_owned();
        self.vector(norm, "model.norm.weight".into(), hidden);
        if !config.tie_word_embeddings {
            self.matrix(
                "output.weight".into(),
                "lm_head.weight".into(),
                (vocab, hidden),
                embeddings,
                None,
            );
        }
    }

    fn layer(&mut self, config: &HfConfig, layer: usize) {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let q = config.n_heads * config.head_dim;
        let kv = config.n_kv_heads * config.head_dim;
        let adjacent = config.architecture.rope_pairs() == RopePairs::Adjacent;
        let interleave = adjacent.then_some(config.head_dim);
        let target = |name: &str, kind: &str| format!("blk.{layer}.{name}.{kind}");
        let source = |name: &str, kind: &str| format!("model.layers.{layer}.{name}.{kind}");
        let matrices = [
            ("attn_q", "self_attn.q_proj", (q, hidden), interleave),
            ("attn_k", "self_attn.k_proj", (kv, hidden), interleave),
            ("attn_v", "self_attn.v_proj", (kv, hidden), None),
            ("attn_output", "self_attn.o_proj", (hidden, q), None),
            ("ffn_gate", "mlp.gate_proj", (inner, hidden), None),
            ("ffn_up", "mlp.up_proj", (inner, hidden), None),
            ("ffn_down", "mlp.down_proj", (hidden, inner), None),
        ];
        for (name, hf, shape, interleave) in matrices {
            let quant = self.quant;
            self.matrix(
                target(name, "weight"),
                source(hf, "weight"),
                shape,
                quant,
                interleave,
            );
            let biased = matches!(name, "attn_q" | "attn_k" | "attn_v");
            if biased && config.architecture.qkv_bias() {
                self.vector(target(name, "bias"), source(hf, "bias"), shape.0);
            }
        }
        let norms = [
            ("attn_norm", "input_layernorm", hidden),
            ("ffn_norm", "post_attention_layernorm", hidden),
        ];
        let head_norms = [
            ("attn_q_norm", "self_attn.q_norm", config.head_dim),
            ("attn_k_norm", "self_attn.k_norm", config.head_dim),
        ];
        let head_norms = head_norms
            .into_iter()
            .filter(|_| config.architecture.qk_norm());
        for (name, hf, size) in norms.into_iter().chain(head_norms) {
            self.vector(target(name, "weight"), source(hf, "weight"), size);
        }
    }

    fn matrix(
        &mut self,
        name: String,
        source: String,
        (rows, cols): (usize, usize),
        ty: GgmlType,
        interleave: Option<usize>,
    ) {
        let fits = cols.is_multiple_of(ty.block_size());
        if !fits {
            self.plan.not_quantized.push(name.clone());
        }
        self.plan.tensors.push(Planned {
            name,
            source,
            rows,
            cols,
            vector: false,
            ty: if fits { ty } else { GgmlType::F16 },
            interleave,
        });
    }

    /// Norms and biases: few, and sensitive, so always F32.
    fn vector(&mut self, name: String, source: String, size: usize) {
        self.plan.tensors.push(Planned {
            name,
            source,
            rows: 1,
            cols: size,
            vector: true,
            ty: GgmlType::F32,
            interleave: None,
        });
    }
}
