//! Which tensors of the file go into the directory, and in which type.
//!
//! In: the file's tensor table and its configuration; out: one [`Planned`] per tensor of the directory. All that is
//! missing, misshapen or left over is named in one error before anything is written.

use std::collections::HashSet;

use super::settings::ImportSettings;
use retort_format::checkpoint::TensorHeader;
use retort_format::gguf::Gguf;
use retort_format::gguf::check::{check_layers, other_tensors, tensor_problem};
use retort_format::gguf::names::ROPE_DIVISORS;
use retort_format::{Error, GgmlType, ModelConfig, Precision, Result, TensorSpec, gguf_tensors};

/// A tensor of the directory to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Its name in the file.
    pub(super) gguf_name: String,
    spec: TensorSpec,
    /// Rows of a head whose halves the file has interleaved.
    pub(super) interleaved: Option<usize>,
    /// The type it is stored in: F32, F16 or BF16.
    pub(super) ty: GgmlType,
}

impl Planned {
    fn precision(&self) -> Precision {
        match self.ty {
            GgmlType::F16 => Precision::F16,
            GgmlType::BF16 => Precision::Bf16,
            _ => Precision::F32,
        }
    }
}

/// All tensors.
#[derive(Debug)]
pub(super) struct ImportPlan {
    pub(super) tensors: Vec<Planned>,
}

impl ImportPlan {
    /// Plans the import of `gguf`.
    pub(super) fn new(gguf: &Gguf, model: &ModelConfig, settings: &ImportSettings) -> Result<Self> {
        use GgmlType::{BF16, F16, F32};
        if settings
            .dtype
            .is_some_and(|ty| !matches!(ty, F32 | F16 | BF16))
        {
            let problem = "the type must be f32, f16 or bf16";
            return Err(Error::Argument(problem.into()));
        }
        check_layers(gguf, model)?;
        let specs = gguf_tensors(model);
        check(gguf, model, &specs)?;
        let planned = |spec: TensorSpec| {
            let gguf_name = spec.gguf_name(model);
            let kept = match gguf.tensor(&gguf_name)?.ty {
                ty @ (F16 | BF16) => ty,
                _ => F32,
            };
            Ok(Planned {
                gguf_name,
                interleaved: spec.interleaved_rows(model),
                ty: settings.dtype.unwrap_or(kept),
                spec,
            })
        };
        let tensors = specs.into_iter().map(planned).collect::<Result<_>>()?;
        Ok(Self { tensors })
    }

    /// The tensors as they will be stored.
    pub(super) fn headers(&self) -> Vec<TensorHeader> {
        let header = |planned: &Planned| TensorHeader {
            name: planned.spec.name.clone(),
            shape: planned.spec.shape.clone(),
            precision: planned.precision(),
        };
        self.tensors.iter().map(header).collect()
    }

    /// The number of weights.
    pub(super) fn parameters(&self) -> u64 {
        let tensors = self.tensors.iter();
        tensors.map(|planned| planned.spec.elements() as u64).sum()
    }

    /// The type that most weights have.
    pub(super) fn main_precision(&self) -> Precision {
        let weights = |precision: &Precision| -> usize {
            let of_type = self.tensors.iter().filter(|p| p.precision() == *precision);
            of_type.map(|planned| planned.spec.elements()).sum()
        };
        [Precision::F32, Precision::F16, Precision::Bf16]
            .into_iter()
            .max_by_key(weights)
            .unwrap_or_default()
    }
}

/// Holds the file to the plan: everything there, of the right shape, and nothing else.
fn check(gguf: &Gguf, model: &ModelConfig, specs: &[TensorSpec]) -> Result<()> {
    let mut problems = Vec::new();
    let mut known = HashSet::from([ROPE_DIVISORS.to_owned()]);
    for spec in specs {
        let name = spec.gguf_name(model);
        problems.extend(tensor_problem(gguf, &name, &spec.gguf_shape()));
        known.insert(name);
    }
    for tensor in gguf.tensors() {
        if !known.contains(tensor.name) {
            problems.push(format!("{} has no place in it", tensor.name));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(other_tensors(gguf, model, &problems))
    }
}
