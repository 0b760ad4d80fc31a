//! Which tensors go into the file: from which of the checkpoint, and in which type.
//!
//! In: config.json and the checkpoint's headers; out: one [`Planned`] per tensor of the file. All
//! that is missing, misshapen or left over is named in one error before anything is written.

use std::collections::BTreeSet;
use std::path::Path;

use super::checkpoint::Checkpoint;
use super::config::HfConfig;
use retort_format::Architecture;
use retort_format::gguf::panels::{Layout, NOTHING_TO_PACK, can_be_packed};
use retort_format::gguf::tensor_names;
use retort_format::gguf::tensor_names::{Entry, Role};
use retort_format::{Error, GgmlType, Result};

/// A tensor of the file to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Names, shape and order of rows.
    pub(super) entry: Entry,
    /// The type it is stored in.
    pub(super) ty: GgmlType,
    /// Whether it lies in panels of sixteen rows.
    pub(super) in_panels: bool,
}

/// The whole file, tensor by tensor.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) tensors: Vec<Planned>,
    /// Matrices whose rows do not divide into blocks, stored as F16 instead.
    pub(super) not_quantized: Vec<String>,
}

impl Plan {
    /// Plans the export of `checkpoint` in `dir` at `quant` and in `layout`.
    pub(super) fn new(
        dir: &Path,
        config: &HfConfig,
        checkpoint: &Checkpoint,
        quant: GgmlType,
        layout: Layout,
    ) -> Result<Self> {
        let dimensions = &config.dimensions;
        if dimensions.n_layers > checkpoint.len() {
            let problem = format!(
                "config.json has {} layers, the checkpoint only {} tensors",
                dimensions.n_layers,
                checkpoint.len()
            );
            return Err(Error::unsupported(dir, problem));
        }
        let mut plan = Self {
            tensors: Vec::new(),
            not_quantized: Vec::new(),
        };
        for entry in tensor_names::tensors(dimensions) {
            plan.add(entry, quant, layout);
        }
        plan.check(dir, config, checkpoint)?;
        if layout == Layout::Rows16 && plan.tensors.iter().all(|planned| !planned.in_panels) {
            let problem = format!("in {quant} it {NOTHING_TO_PACK}");
            return Err(Error::unsupported(dir, problem));
        }
        // Readers of `qwen` files know no tied head.
        if dimensions.architecture == Architecture::Qwen && dimensions.tied {
            let mut head = plan.tensors[0].clone();
            head.entry.gguf = "output.weight".into();
            plan.tensors.push(head);
        }
        Ok(plan)
    }

    fn add(&mut self, entry: Entry, quant: GgmlType, layout: Layout) {
        let ty = match entry.role {
            // Few, and sensitive.
            Role::Vector => GgmlType::F32,
            Role::Vocabulary if quant == GgmlType::Q4_0 => GgmlType::Q8_0,
            _ => quant,
        };
        let fits = entry.cols.is_multiple_of(ty.block_size());
        if !fits {
            self.not_quantized.push(entry.gguf.clone());
        }
        let ty = if fits { ty } else { GgmlType::F16 };
        self.tensors.push(Planned {
            in_panels: layout == Layout::Rows16 && can_be_packed(ty, &entry.gguf_shape()),
            entry,
            ty,
        });
    }

    /// Holds the plan to the checkpoint: everything there, of the right shape, and nothing else.
    fn check(&self, dir: &Path, config: &HfConfig, checkpoint: &Checkpoint) -> Result<()> {
        let mut problems = Vec::new();
        let mut known = BTreeSet::new();
        for Planned { entry, .. } in &self.tensors {
            known.insert(entry.hf.as_str());
            let wanted = entry.hf_shape();
            match checkpoint.get(&entry.hf) {
                None => problems.push(format!("{} is missing", entry.hf)),
                Some(found) if found.shape != wanted => problems.push(format!(
                    "{} has shape {:?}, not {wanted:?}",
                    entry.hf, found.shape
                )),
                Some(_) => {}
            }
        }
        for name in checkpoint.names() {
            let tied_copy = config.dimensions.tied && name == "lm_head.weight";
            let derived = name.ends_with("rotary_emb.inv_freq");
            if !known.contains(name) && !tied_copy && !derived {
                problems.push(format!("{name} has no place in it"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let model = config.dimensions.architecture.name();
        let problem = format!(
            "the tensors are not those of the {model} in config.json: {}",
            retort_format::error::list(&problems)
        );
        Err(Error::unsupported(dir, problem))
    }
}
