//! The options of quantization that `retort-edge quantize` and `retort export` share.
//!
//! The two commands add the base type, in the words of what they write, and where calibration texts come from (an
//! argument named `calibrate`).

use retort_convert::calibrate::CalibrationSettings;
use retort_convert::quantize::{Recipe, Rotation};
use retort_format::{GgmlType, Result};

/// Options beside the base type and the texts.
#[derive(Clone, Debug, clap::Args)]
pub struct QuantizeOptions {
    /// Tensors that are stored otherwise, by a pattern over their names in the file (may be repeated)
    #[arg(long, value_name = "PATTERN=TYPE")]
    tensor: Vec<String>,
    /// Give matrices more bits, those that lose most first, up to X a weight in all
    #[arg(long, value_name = "X")]
    bits_per_weight: Option<f64>,
    /// Turn the model's coordinates by Hadamard matrices before it is rounded, so that no channel is much larger than
    /// others; what it computes stays
    #[arg(long, value_name = "WHAT", value_enum)]
    rotate: Option<Rotate>,
    /// Give each block of weights the scale with the least squared error, instead of llama.cpp's; with a text calibration
    /// does so, by what counts there
    #[arg(long, conflicts_with = "calibrate")]
    search_scales: bool,
    /// Tokens of the calibration text
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32_768,
        requires = "calibrate"
    )]
    calibrate_tokens: usize,
    /// Tokens of a window of that text
    #[arg(long, value_name = "N", default_value_t = CalibrationSettings::default().context, requires = "calibrate")]
    calibrate_context: usize,
    /// What is added to each input's own second moment, as a share of it: more trusts pairs of inputs less
    #[arg(long, value_name = "X", default_value_t = CalibrationSettings::default().damping, requires = "calibrate")]
    calibrate_damping: f64,
    /// Rounds of coordinate descent after errors are passed on
    #[arg(long, value_name = "N", default_value_t = CalibrationSettings::default().passes, requires = "calibrate")]
    calibrate_passes: usize,
    /// Leave the scales of inputs as they are, instead of moving them into the norm or matrix before where that loses less
    #[arg(long, requires = "calibrate")]
    calibrate_unbalanced: bool,
}

/// [`Rotation`] by the names of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Rotate {
    /// The values of each head (QuaRot's and SpinQuant's R2): as many bytes as without
    Values,
    /// The residual stream (R1): a head tied to the embedding table becomes a matrix of its own, which is more bytes
    Stream,
    /// The two
    Both,
}

impl From<Rotate> for Rotation {
    fn from(rotate: Rotate) -> Self {
        match rotate {
            Rotate::Values => Self::Values,
            Rotate::Stream => Self::Stream,
            Rotate::Both => Self::Both,
        }
    }
}

impl QuantizeOptions {
    /// The recipe with `quant` as its base.
    ///
    /// # Errors
    ///
    /// [`retort_format::Error::Argument`], as [`Recipe`] has it.
    pub fn recipe(&self, quant: GgmlType) -> Result<Recipe> {
        let mut recipe = Recipe::new(quant)?;
        for tensor in &self.tensor {
            recipe = recipe.tensor(tensor)?;
        }
        if let Some(bits) = self.bits_per_weight {
            recipe = recipe.bits_per_weight(bits)?;
        }
        if self.search_scales {
            recipe = recipe.search_scales();
        }
        Ok(match self.rotate {
            Some(rotation) => recipe.rotate(rotation.into()),
            None => recipe,
        })
    }

    /// Tokens of calibration.
    pub fn tokens(&self) -> usize {
        self.calibrate_tokens
    }

    /// How the model is calibrated.
    pub fn calibration(&self) -> CalibrationSettings {
        CalibrationSettings {
            context: self.calibrate_context,
            damping: self.calibrate_damping,
            passes: self.calibrate_passes,
            balance: !self.calibrate_unbalanced,
        }
    }
}
