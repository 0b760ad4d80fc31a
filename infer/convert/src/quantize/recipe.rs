//! Which tensor is stored in which type.
//!
//! A recipe is a base type, patterns over tensors' names that say otherwise (the last that matches counts), and
//! perhaps a budget of bits (see [`super::budget`]); [`Rotation`] may rotate them before. Norms and biases stay F32; in a 4-bit file the embedding table
//! and the output projection are Q8_0 unless a pattern names them; a matrix whose rows do not divide into blocks of
//! 32 is F16.

use glob::Pattern;

use crate::source::{Rotation, SourceTensor};
use retort_format::gguf::names::{EMBEDDING, HEAD};
use retort_format::gguf::panels::Layout;
use retort_format::quant::search::quantize_row_searched;
use retort_format::{Error, GgmlType, Result, quant};

/// Appends a row of weights in a type to bytes.
pub(super) type Rounding = fn(GgmlType, &[f32], &mut Vec<u8>) -> Result<()>;

/// The types that are written.
pub const TYPES: [GgmlType; 6] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q8_0,
    GgmlType::Q4_1,
    GgmlType::Q4_0,
];

/// How the tensors of a file are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The type of most matrices.
    pub(super) quant: GgmlType,
    patterns: Vec<(Pattern, GgmlType)>,
    /// The budget.
    pub(super) bits_per_weight: Option<f64>,
    pub(super) rotation: Option<Rotation>,
    searched: bool,
    pub(super) layout: Layout,
}

impl Recipe {
    /// Every matrix in `quant`, one of [`TYPES`].
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for another type.
    pub fn new(quant: GgmlType) -> Result<Self> {
        check(quant)?;
        Ok(Self {
            quant,
            patterns: Vec::new(),
            bits_per_weight: None,
            rotation: None,
            searched: false,
            layout: Layout::Plain,
        })
    }

    /// Stores tensors as `PATTERN=TYPE` says, such as `blk.*.ffn_down.weight=q8_0`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if it has another form.
    pub fn tensor(mut self, text: &str) -> Result<Self> {
        let refuse = |problem: String| Error::Argument(format!("--tensor {text}: {problem}"));
        let Some((pattern, name)) = text.rsplit_once('=') else {
            return Err(refuse("it has the form PATTERN=TYPE".into()));
        };
        let pattern = Pattern::new(pattern).map_err(|error| refuse(error.to_string()))?;
        let named = TYPES
            .into_iter()
            .find(|ty| ty.name().eq_ignore_ascii_case(name));
        let Some(ty) = named else {
            return Err(refuse(format!("the type is one of {}", names())));
        };
        self.patterns.push((pattern, ty));
        Ok(self)
    }

    /// Gives more bits where they count most, up to `bits` per weight of the whole file.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if that is no positive number.
    pub fn bits_per_weight(mut self, bits: f64) -> Result<Self> {
        if !(bits.is_finite() && bits > 0.0) {
            let problem = format!("--bits-per-weight {bits}: it must be a positive number");
            return Err(Error::Argument(problem));
        }
        self.bits_per_weight = Some(bits);
        Ok(self)
    }

    /// Rotates the model's coordinates before it is rounded.
    pub fn rotate(mut self, rotation: Rotation) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// Gives each block, where nothing is calibrated, the scale with the least squared error.
    pub fn search_scales(mut self) -> Self {
        self.searched = true;
        self
    }

    /// How matrices lie in the file.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// How a row is encoded by itself.
    pub(super) fn rounding(&self) -> Rounding {
        if self.searched {
            |ty, row, out| quantize_row_searched(ty, row, None, out)
        } else {
            quant::quantize_row
        }
    }

    /// Whether a pattern names the tensor, so that the budget does not touch it.
    pub(super) fn names(&self, tensor: &str) -> bool {
        self.patterns
            .iter()
            .any(|(pattern, _)| pattern.matches(tensor))
    }

    /// The type of `tensor`: F16 where rows do not divide into the blocks of the one it should have.
    pub(super) fn ty(&self, tensor: &SourceTensor) -> GgmlType {
        let ty = self.wanted(tensor);
        if tensor.dims[0].is_multiple_of(ty.block_size() as u64) {
            ty
        } else {
            GgmlType::F16
        }
    }

    /// The type that `tensor` should have.
    pub(super) fn wanted(&self, tensor: &SourceTensor) -> GgmlType {
        if !tensor.is_matrix() {
            return GgmlType::F32;
        }
        let mut named = self.patterns.iter().rev();
        if let Some((_, ty)) = named.find(|(pattern, _)| pattern.matches(&tensor.name)) {
            return *ty;
        }
        let vocabulary = [EMBEDDING, HEAD].contains(&tensor.name.as_str());
        if vocabulary && matches!(self.quant, GgmlType::Q4_0 | GgmlType::Q4_1) {
            GgmlType::Q8_0
        } else {
            self.quant
        }
    }

    /// Refuses patterns that match no matrix.
    pub(super) fn check(&self, tensors: &[SourceTensor]) -> Result<()> {
        for (pattern, _) in &self.patterns {
            let mut matrices = tensors.iter().filter(|tensor| tensor.is_matrix());
            if !matrices.any(|tensor| pattern.matches(&tensor.name)) {
                return Err(Error::Argument(format!(
                    "--tensor {pattern}: no matrix of the model has such a name; \
                     they are like blk.0.ffn_down.weight"
                )));
            }
        }
        Ok(())
    }
}

/// The names of [`TYPES`].
fn names() -> String {
    TYPES.map(|ty| ty.name().to_lowercase()).join(", ")
}

fn check(ty: GgmlType) -> Result<()> {
    if TYPES.contains(&ty) {
        Ok(())
    } else {
        Err(Error::Argument(format!(
            "cannot quantize to {ty}; {} are possible",
            names()
        )))
    }
}
