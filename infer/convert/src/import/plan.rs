//! Which tensors of the file go where: under which name, in which type, into which shard.
//!
//! In: the file's tensor table and its configuration; out: one [`Planned`] per tensor of the
//! directory, in shards of a bounded size. All that is missing, misshapen or left over is named in
//! one error before anything is written.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::Settings;
use retort_engine::decoder::Config;
use retort_format::gguf::tensor_names::{Dimensions, Entry};
use retort_format::gguf::{Gguf, tensor_names};
use retort_format::{Error, GgmlType, Result};

/// A tensor of the directory to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Names, shape and order of rows.
    pub(super) entry: Entry,
    /// The type it is stored in.
    pub(super) ty: GgmlType,
    /// The type it has in the file.
    pub(super) source_ty: GgmlType,
    /// Bytes of one of its rows there.
    pub(super) source_row_bytes: usize,
    /// Where it begins there.
    pub(super) offset: u64,
}

impl Planned {
    /// Bytes in the directory: no more than eight times those in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.entry.weights() * self.ty.bytes_per_block() as u64
    }
}

/// All tensors, shard by shard.
#[derive(Debug)]
pub(super) struct Plan {
    shards: Vec<Vec<Planned>>,
}

impl Plan {
    /// Plans the import of `gguf`.
    pub(super) fn new(gguf: &Gguf, config: &Config, settings: &Settings) -> Result<Self> {
        use GgmlType::{BF16, F16, F32};
        if settings
            .dtype
            .is_some_and(|ty| !matches!(ty, F32 | F16 | BF16))
        {
            let problem = "the type must be f32, f16 or bf16";
            return Err(Error::Argument(problem.into()));
        }
        let architecture = config.architecture;
        if config.n_layers > gguf.tensors().len() {
            let key = format!("{}.block_count", architecture.name());
            let problem = format!(
                "{} layers in a file of {} tensors",
                config.n_layers,
                gguf.tensors().len()
            );
            return Err(Error::metadata(gguf.path(), &key, problem));
        }
        let entries = tensor_names::tensors(&Dimensions {
            architecture,
            n_layers: config.n_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            tied: !gguf.has_tensor("output.weight"),
        });
        check(gguf, config, &entries)?;
        let (mut shards, mut shard, mut size) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            let tensor = gguf.tensor(&entry.gguf)?;
            let kept = match tensor.ty {
                F16 | BF16 => tensor.ty,
                _ => F32,
            };
            let planned = Planned {
                ty: settings.dtype.unwrap_or(kept),
                source_ty: tensor.ty,
                source_row_bytes: tensor.data.len() / entry.rows,
                offset: tensor.offset,
                entry,
            };
            let bytes = planned.bytes();
            if size > 0 && size + bytes > settings.max_shard_bytes {
                shards.push(std::mem::take(&mut shard));
                size = 0;
            }
            size += bytes;
            shard.push(planned);
        }
        shards.push(shard);
        Ok(Self { shards })
    }

    /// The tensors of every shard.
    pub(super) fn shards(&self) -> impl ExactSizeIterator<Item = &[Planned]> {
        self.shards.iter().map(Vec::as_slice)
    }

    fn tensors(&self) -> impl Iterator<Item = &Planned> {
        self.shards.iter().flatten()
    }

    /// The number of tensors.
    pub(super) fn n_tensors(&self) -> usize {
        self.tensors().count()
    }

    /// The number of weights.
    pub(super) fn parameters(&self) -> u64 {
        self.tensors().map(|planned| planned.entry.weights()).sum()
    }

    /// The bytes of all tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.tensors().map(Planned::bytes).sum()
    }

    /// The type that most weights have.
    pub(super) fn main_type(&self) -> GgmlType {
        let weights = |ty: &GgmlType| -> u64 {
            let of_type = self.tensors().filter(|planned| planned.ty == *ty);
            of_type.map(|planned| planned.entry.weights()).sum()
        };
        [GgmlType::F32, GgmlType::F16, GgmlType::BF16]
            .into_iter()
            .max_by_key(weights)
            .unwrap_or(GgmlType::F32)
    }

    /// The file name of a shard.
    pub(super) fn shard_name(&self, index: usize) -> String {
        match self.shards.len() {
            1 => "model.safetensors".into(),
            n => format!("model-{:05}-of-{n:05}.safetensors", index + 1),
        }
    }

    /// model.safetensors.index.json, where there are several shards.
    pub(super) fn index(&self) -> Option<Value> {
        if self.shards.len() == 1 {
            return None;
        }
        let shards = self.shards.iter().enumerate();
        let weight_map: BTreeMap<&str, String> = shards
            .flat_map(|(index, tensors)| {
                let hf = tensors.iter().map(|planned| planned.entry.hf.as_str());
                hf.map(move |name| (name, self.shard_name(index)))
            })
            .collect();
        Some(json!({"metadata": {"total_size": self.bytes()}, "weight_map": weight_map}))
    }
}

/// Holds the file to the plan: everything there, of the right shape, and nothing else.
fn check(gguf: &Gguf, config: &Config, entries: &[Entry]) -> Result<()> {
    let mut problems = Vec::new();
    let mut known = HashSet::new();
    for entry in entries {
        known.insert(entry.gguf.as_str());
        let wanted = entry.gguf_shape();
        match gguf.tensor(&entry.gguf) {
            Err(_) => problems.push(format!("{} is missing", entry.gguf)),
            Ok(found) if found.dims != wanted => problems.push(format!(
                "{} has shape {:?}, not {wanted:?}",
                entry.gguf, found.dims
            )),
            Ok(_) => {}
        }
    }
    for tensor in gguf.tensors() {
        if !known.contains(tensor.name) && tensor.name != "rope_freqs.weight" {
            problems.push(format!("{} has no place in it", tensor.name));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "the tensors are not those of the {} that its metadata describes: {}",
        config.architecture.name(),
        retort_format::error::list(&problems)
    );
    Err(Error::unsupported(gguf.path(), problem))
}
