//! A first phase in which each part of the student learns the teacher's corresponding part by
//! itself: given the teacher's hidden state where the part begins, it is to give the teacher's
//! where it ends (`[teacher.blockwise]`).
//!
//! In: the teacher's states `[B, T, D]` at the parts' ends, D the width of both models. Out: the
//! mean over the parts of `Σ weight · |part(x) − y|² / |y|²` (see [`relative_error`]). All parts
//! learn in one pass, none waits for those before it, and the gradient of each stays within it:
//! one part's activations exist at a time. The embedding, the last norm and the head are left
//! as they are: the phase is for students that have their teacher's, cut out of it.
//!
//! Source: Puzzle's blockwise local distillation (Bercovich et al., arXiv 2411.19146, section 3);
//! which layers answer to which, as Minitron drops layers (Muralidharan et al., arXiv
//! 2407.14679).

use std::ops::Range;

use burn::tensor::Tensor;
use retort_format::ModelConfig;
use retort_train::Block;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer_mapping::LayerMapping;
use crate::matching::relative_error;
use crate::teacher::{HiddenStates, RequestedStates};

/// `[teacher.blockwise]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockwiseConfig {
    /// The first so many of the run's steps.
    pub steps: u64,
    /// A multiple of the schedule's learning rate in them.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// Where the parts end: student's layer s after what teacher's layer t gives.
    #[serde(default)]
    pub layers: LayerMapping,
}

fn one() -> f64 {
    1.0
}

/// Layers of the student that learn as one.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    student: Range<usize>,
    /// Depths of the teacher where it begins and ends.
    teacher: Range<usize>,
}

/// The phase, ready to run.
#[derive(Clone, Debug)]
pub struct Blockwise {
    /// It lasts so long.
    pub steps: u64,
    /// A multiple of the learning rate.
    pub lr_scale: f64,
    parts: Vec<Part>,
}

impl Blockwise {
    /// The phase of `config` for two models.
    ///
    /// # Errors
    /// [`Error::Config`]: models of different widths, layers that are not there or go back, a
    /// scale that is none.
    pub fn new(
        config: &BlockwiseConfig,
        student: &ModelConfig,
        teacher: &ModelConfig,
    ) -> Result<Self> {
        let bad = |what: String| Err(Error::Config(format!("blockwise.{what}")));
        if !(config.lr_scale.is_finite() && config.lr_scale > 0.0) {
            return bad("lr_scale: must be above 0".into());
        }
        let widths = [student, teacher].map(|c| c.hidden_size);
        if widths[0] != widths[1] {
            return Err(Error::Config(format!(
                "blockwise: the student's layers read the teacher's states, which needs one \
                 hidden_size, and the student's is {}, the teacher's {}: remove the table, or cut \
                 the student with `retort prune` and keep the width",
                widths[0], widths[1]
            )));
        }
        let layers = [student, teacher].map(|c| c.num_hidden_layers);
        let mut parts: Vec<Part> = Vec::new();
        for pair in config.layers.pairs(layers[0], layers[1], "blockwise")? {
            let (s, t) = parts
                .last()
                .map_or((0, 0), |p| (p.student.end, p.teacher.end));
            let part = Part {
                student: s..pair.student + 1,
                teacher: t..pair.teacher + 1,
            };
            if part.student.is_empty() || part.teacher.is_empty() {
                return bad(format!(
                    "layers: [{}, {}] does not come after the pair before it in both models: \
                     each layer may be in one pair{}",
                    pair.student,
                    pair.teacher,
                    if layers[0] > layers[1] {
                        ", and the teacher must have as many layers as the student"
                    } else {
                        ""
                    }
                ));
            }
            parts.push(part);
        }
        Ok(Self {
            steps: config.steps,
            lr_scale: config.lr_scale,
            parts,
        })
    }

    /// Parts that learn.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The hidden states of the teacher that the blocks begin and end with.
    pub fn requested_states(&self) -> RequestedStates {
        let ends = self
            .parts
            .iter()
            .flat_map(|p| [p.teacher.start, p.teacher.end]);
        RequestedStates {
            depths: ends.collect(),
            ..RequestedStates::default()
        }
    }

    /// The blocks of the student, each with its input and its loss of the teacher's `states`; positions count `weights`
    /// `[B, T]`.
    pub fn blocks<'a>(&'a self, states: &HiddenStates, weights: &'a Tensor<2>) -> Vec<Block<'a>> {
        let count = self.parts.len() as f32;
        let block = |part: &Part| {
            let y = states.hidden[&part.teacher.end].clone();
            Block {
                layers: part.student.clone(),
                input: states.hidden[&part.teacher.start].clone(),
                loss: Box::new(move |x| relative_error(x, y, weights.clone()) / count),
            }
        };
        self.parts.iter().map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(layers: usize, width: usize) -> ModelConfig {
        serde_json::from_value(json!({
            "vocab_size": 20, "hidden_size": width, "intermediate_size": 12,
            "num_hidden_layers": layers, "num_attention_heads": 2,
        }))
        .unwrap()
    }

    fn parts(text: &str, student: usize, teacher: usize) -> std::result::Result<Vec<Part>, String> {
        let config: BlockwiseConfig = toml::from_str(text).unwrap();
        let phase = Blockwise::new(&config, &model(student, 8), &model(teacher, 8));
        phase.map(|p| p.parts).map_err(|e| e.to_string())
    }

    #[test]
    fn blockwise_parts_follow_each_other_in_both_models() {
        let part = |student, teacher| Part { student, teacher };
        assert_eq!(
            parts("steps = 1", 2, 6).unwrap(),
            [part(0..1, 0..3), part(1..2, 3..6)]
        );
        // Layers 2 and 3 of the teacher were dropped; the student's first two learn as one.
        assert_eq!(
            parts("steps = 1\nlayers = [[1, 1], [2, 4]]", 4, 6).unwrap(),
            [part(0..2, 0..2), part(2..3, 2..5)]
        );
        for (text, student, teacher, expect) in [
            ("steps = 1", 3, 2, "as many layers as the student"),
            (
                "steps = 1\nlayers = [[0, 3], [1, 2]]",
                2,
                6,
                "[1, 2] does not come after",
            ),
            (
                "steps = 1\nlayers = [[0, 1], [0, 2]]",
                2,
                6,
                "[0, 2] does not come after",
            ),
            ("steps = 1\nlr_scale = 0", 2, 6, "lr_scale"),
        ] {
            let message = parts(text, student, teacher).unwrap_err();
            assert!(message.contains(expect), "{text}: {message}");
        }
        let config = toml::from_str("steps = 1").unwrap();
        let message = Blockwise::new(&config, &model(2, 8), &model(2, 12)).unwrap_err();
        assert!(
            message.to_string().contains("8, the teacher's 12"),
            "{message}"
        );
    }
}
