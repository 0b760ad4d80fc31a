//! Which tensor is stored in which type.
//!
//! A recipe is a base type, patterns over tensors' names that say otherwise (the last that matches counts), and
//! perhaps a budget of bits (see [`super::budget`]); [`super::rotate`] may turn them before. Norms and biases stay F32; in a 4-bit file the embedding table
//! and the output projection are Q8_0 unless a pattern names them; a matrix whose rows do not divide into blocks of
//! 32 is F16.

use glob::Pattern;

use super::rotate::Rotation;
use retort_format::gguf::TensorView;
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
    quant: GgmlType,
    patterns: Vec<(Pattern, GgmlType)>,
    bits_per_weight: Option<f64>,
    rotation: Option<Rotation>,
    searched: bool,
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

    /// Turns the model's coordinates before it is rounded.
    pub fn rotate(mut self, rotation: Rotation) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// Gives each block, where nothing is calibrated, the scale with the least squared error.
    pub fn search_scales(mut self) -> Self {
        self.searched = true;
        self
    }

    /// The type of most matrices.
    pub fn quant(&self) -> GgmlType {
        self.quant
    }

    /// The budget.
    pub(super) fn budget(&self) -> Option<f64> {
        self.bits_per_weight
    }

    /// What is turned.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        self.rotation
    }

    /// How a row is encoded by itself.
    pub(super) fn rounding(&self) -> Rounding {
        match self.searched {
            true => |ty, row, out| quantize_row_searched(ty, row, None, out),
            false => quant::quantize_row,
        }
    }

    /// Whether a pattern names the tensor, so that the budget does not touch it.
    pub(super) fn names(&self, tensor: &str) -> bool {
        self.patterns
            .iter()
            .any(|(pattern, _)| pattern.matches(tensor))
    }

    /// The type of `tensor`.
    pub(super) fn ty(&self, tensor: &TensorView) -> GgmlType {
        if !is_matrix(tensor) {
            return GgmlType::F32;
        }
        let named = self.patterns.iter().rev();
        let named = named
            .filter(|(pattern, _)| pattern.matches(tensor.name))
            .map(|(_, ty)| *ty)
            .next();
        let vocabulary = matches!(tensor.name, "token_embd.weight" | "output.weight");
        let four_bits = matches!(self.quant, GgmlType::Q4_0 | GgmlType::Q4_1);
        let ty = named.unwrap_or(match vocabulary && four_bits {
            true => GgmlType::Q8_0,
            false => self.quant,
        });
        match tensor.dims[0].is_multiple_of(ty.block_size() as u64) {
            true => ty,
            false => GgmlType::F16,
        }
    }

    /// Refuses patterns that match no matrix.
    pub(super) fn check<'a>(&self, tensors: impl Iterator<Item = TensorView<'a>>) -> Result<()> {
        let names: Vec<_> = tensors
            .filter(is_matrix)
            .map(|tensor| tensor.name)
            .collect();
        for (pattern, _) in &self.patterns {
            if !names.iter().any(|name| pattern.matches(name)) {
                return Err(Error::Argument(format!(
                    "--tensor {pattern}: no matrix of the model has such a name; \
                     they are like blk.0.ffn_down.weight"
                )));
            }
        }
        Ok(())
    }
}

/// Two dimensions: what is quantized.
pub(super) fn is_matrix(tensor: &TensorView) -> bool {
    tensor.dims.len() == 2
}

/// The names of [`TYPES`].
fn names() -> String {
    TYPES.map(|ty| ty.name().to_lowercase()).join(", ")
}

fn check(ty: GgmlType) -> Result<()> {
    match TYPES.contains(&ty) {
        true => Ok(()),
        false => Err(Error::Argument(format!(
            "cannot quantize to {ty}; {} are possible",
            names()
        ))),
    }
}
