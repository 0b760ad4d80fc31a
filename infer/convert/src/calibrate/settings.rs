//! How a model is calibrated.

/// How a model is calibrated.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationSettings {
    /// Tokens of a window.
    pub context: usize,
    /// What is added to each input's own second moment, as a share of it, so that moments of pairs count less.
    pub damping: f64,
    /// Rounds of coordinate descent after rounding.
    pub passes: usize,
    /// Whether large inputs are made smaller where that loses less, in the norm or matrix that they come from.
    pub balance: bool,
}

impl Default for CalibrationSettings {
    fn default() -> Self {
        Self {
            context: 512,
            damping: 1.0,
            passes: 6,
            balance: true,
        }
    }
}
