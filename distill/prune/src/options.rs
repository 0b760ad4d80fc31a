//! What is asked of pruning, and what has to be measured for it.

use retort_format::ModelConfig;

use crate::error::{Error, Result};
use crate::student_config::TargetSizes;
use crate::text::TextSource;

/// How the layers that stay are selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerSelection {
    /// The layers of least influence are removed (ShortGPT); needs text.
    #[default]
    Influence,
    /// One contiguous range of layers is removed (arXiv 2403.17887); needs text.
    Range,
    /// The layers that stay are evenly spaced.
    EvenlySpaced,
}

/// How channels and heads are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportanceMetric {
    /// By the L1 norm of their weights.
    L1,
    /// By the size of their activations; needs text.
    #[default]
    Activation,
}

/// The student that is asked for.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// The student's sizes.
    pub sizes: TargetSizes,
    /// How the layers that stay are selected.
    pub layer_selection: LayerSelection,
    /// The layers that stay by number, such as `0,1,4-7`, in place of a count.
    pub keep_layers: Option<String>,
    /// Whether the first and the last layer may be removed.
    pub remove_ends: bool,
    /// How channels and heads are scored.
    pub importance: ImportanceMetric,
    /// Text that layers, channels and heads are scored on.
    pub calibration_text: Option<TextSource>,
    /// Tokens in a sequence of it, at most the parent's context.
    pub seq_len: usize,
    /// Text in which tokens are counted, to shrink the vocabulary.
    pub vocabulary_text: Option<TextSource>,
}

/// The measurements that a student needs.
pub(crate) struct Measurements {
    /// Channels or heads are removed.
    pub importance: bool,
    /// They are scored on text.
    pub activations: bool,
    /// Layers are scored on text.
    pub layers: bool,
}

impl Measurements {
    /// Those for `student`, whose layers `are_listed` or have to be selected.
    ///
    /// # Errors
    /// [`Error::Option`] if text is needed and `options` names none.
    pub(crate) fn of(
        parent: &ModelConfig,
        student: &ModelConfig,
        are_listed: bool,
        options: &PruneOptions,
    ) -> Result<Self> {
        let importance = student.hidden_size < parent.hidden_size
            || student.num_key_value_heads < parent.num_key_value_heads
            || student.inner_size() < parent.inner_size();
        let shallower = student.num_hidden_layers < parent.num_hidden_layers;
        let selected_on_text = options.layer_selection != LayerSelection::EvenlySpaced;
        let measurements = Self {
            importance,
            activations: importance && options.importance == ImportanceMetric::Activation,
            layers: shallower && !are_listed && selected_on_text,
        };
        if options.calibration_text.is_some() || !measurements.need_text() {
            return Ok(measurements);
        }
        let (option, other) = if measurements.layers {
            ("layers-by", "every")
        } else {
            ("importance", "l1")
        };
        let reason = format!("needs text: give --data SOURCE, or --{option} {other}");
        Err(Error::option(option, reason))
    }

    /// Whether text has to go through the parent.
    pub(crate) fn need_text(&self) -> bool {
        self.activations || self.layers
    }
}
