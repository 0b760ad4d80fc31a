//! A student's states held to its teacher's, layer by layer: what the residual stream is after a
//! layer (`[teacher.hidden]`), and what attention adds to it (`[teacher.attention]`).
//!
//! In: the student's states `[B, T, D]` on the way through, the teacher's `[B, T, E]` as
//! constants, and the weights `[B, T]` of the positions. Out: for each pair of layers
//!
//! ```text
//! Σ weight · |x W − y|² / |y|²      x student, y teacher, W [D, E] learned, or none
//! ```
//!
//! and the mean over the pairs. Divided by the teacher's own square at the same position it has
//! no unit: 1 is what a student that gives zeros has, whatever the width, the layer or the token
//! (a row's first position may be a hundred times as large as the others), and a batch
//! cut in two has the same sum. W is trained as the student is and dropped with the teacher.
//!
//! Hints through a learned regressor: Romero et al., FitNets, arXiv 1412.6550. Every mapped
//! layer's hidden states and attention through learned projections: Jiao et al., TinyBERT, arXiv
//! 1909.10351 (which compares attention's L × L scores: here its output is compared, and no such
//! matrix exists); hidden states through a linear map: Arcee's DistillKit. The division: Puzzle,
//! arXiv 2411.19146, there by the mean over a batch.

use burn::tensor::Tensor;
use retort_format::ModelConfig;
use retort_model::Decoder;
use retort_train::{BatchTensors, LayerLosses, LayerSums, Loss};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer_mapping::LayerMapping;
use crate::schedule::WeightSchedule;
use crate::teacher::{HiddenStates, RequestedStates};

/// `[teacher.hidden]` or `[teacher.attention]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchConfig {
    /// What it counts.
    pub weight: WeightSchedule,
    /// Which layers are compared.
    #[serde(default)]
    pub layers: LayerMapping,
    /// Whether the student's states go through a learned matrix first. Only models of one width
    /// can do without.
    #[serde(default = "yes")]
    pub projection: bool,
}

fn yes() -> bool {
    true
}

/// A pair of layers that is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
struct MatchedPair {
    student: usize,
    teacher: usize,
    /// The matrix beside the student's model, if there is one.
    projection: Option<usize>,
}

/// What is compared in one table's name.
#[derive(Clone, Debug)]
struct Compared {
    weight: WeightSchedule,
    places: Vec<MatchedPair>,
}

/// Everything that is compared.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    hidden: Option<Compared>,
    attention: Option<Compared>,
    shapes: Vec<[usize; 2]>,
}

/// What the parts are called in `metrics.jsonl`.
const PARTS: [&str; 2] = ["hidden", "attention"];

impl Matching {
    /// What the tables `hidden` and `attention` compare of two models.
    ///
    /// # Errors
    /// [`Error::Config`]: layers that are not there, widths that differ without a projection, a
    /// weight that is none.
    pub fn new(
        hidden: Option<&MatchConfig>,
        attention: Option<&MatchConfig>,
        student: &ModelConfig,
        teacher: &ModelConfig,
    ) -> Result<Self> {
        let mut shapes = Vec::new();
        let mut compared = |table: &str,
                            config: Option<&MatchConfig>|
         -> Result<Option<Compared>> {
            let Some(config) = config else {
                return Ok(None);
            };
            config.weight.check(&format!("{table}.weight"))?;
            let widths = [student.hidden_size, teacher.hidden_size];
            if !config.projection && widths[0] != widths[1] {
                return Err(Error::Config(format!(
                    "{table}.projection: false needs models of one width, these have {} and {}: \
                     leave the key away",
                    widths[0], widths[1]
                )));
            }
            let layers = [student, teacher].map(|c| c.num_hidden_layers);
            let pairs = config.layers.pairs(layers[0], layers[1], table)?;
            let place = |pair: crate::layer_mapping::LayerPair| MatchedPair {
                student: pair.student,
                teacher: pair.teacher,
                projection: config.projection.then(|| {
                    shapes.push(widths);
                    shapes.len() - 1
                }),
            };
            Ok(Some(Compared {
                weight: config.weight,
                places: pairs.into_iter().map(place).collect(),
            }))
        };
        Ok(Self {
            hidden: compared("hidden", hidden)?,
            attention: compared("attention", attention)?,
            shapes,
        })
    }

    /// Whether nothing is compared.
    pub fn is_empty(&self) -> bool {
        self.hidden.is_none() && self.attention.is_none()
    }

    /// Shapes of the projections.
    pub fn shapes(&self) -> &[[usize; 2]] {
        &self.shapes
    }

    /// Pairs compared: hidden states, attention.
    pub fn counts(&self) -> [usize; 2] {
        self.both().map(|c| c.map_or(0, |c| c.places.len()))
    }

    fn both(&self) -> [Option<&Compared>; 2] {
        [self.hidden.as_ref(), self.attention.as_ref()]
    }

    /// The states that the teacher must return. Depth d is the output of layer d − 1.
    pub fn requested_states(&self) -> RequestedStates {
        let of = |c: Option<&Compared>, more: usize| {
            let places = c.iter().flat_map(|c| &c.places);
            places.map(|p| p.teacher + more).collect()
        };
        let [hidden, attention] = self.both();
        RequestedStates {
            depths: of(hidden, 1),
            attention: of(attention, 0),
        }
    }

    /// The losses of `model`'s layers against the teacher's `states`, for `batch`.
    pub fn losses<'a>(
        &'a self,
        model: &'a Decoder,
        batch: &'a BatchTensors,
        states: HiddenStates,
    ) -> MatchingLosses<'a> {
        MatchingLosses {
            matching: self,
            model,
            batch,
            states,
        }
    }
}

/// The losses of one batch.
pub struct MatchingLosses<'a> {
    matching: &'a Matching,
    model: &'a Decoder,
    batch: &'a BatchTensors,
    /// The teacher's.
    states: HiddenStates,
}

impl LayerLosses for MatchingLosses<'_> {
    fn needs_attention(&self, layer: usize) -> bool {
        let here = |c: &Compared| c.places.iter().any(|p| p.student == layer);
        self.matching.attention.as_ref().is_some_and(here)
    }

    fn add(
        &self,
        layer: usize,
        output: &Tensor<3>,
        attention: Option<&Tensor<3>>,
        sums: &mut LayerSums,
    ) {
        let ours = [Some(output), attention];
        let theirs = [(&self.states.hidden, 1), (&self.states.attention, 0)];
        for (k, compared) in self.matching.both().into_iter().enumerate() {
            let places = compared.iter().flat_map(|c| &c.places);
            for place in places.filter(|p| p.student == layer) {
                let (Some(x), (states, more)) = (ours[k], theirs[k]) else {
                    continue;
                };
                let x = match place.projection {
                    Some(p) => self.model.project(p, x.clone()),
                    None => x.clone(),
                };
                let y = states[&(place.teacher + more)].clone();
                sums.add(PARTS[k], relative_error(x, y, self.batch.weights.clone()));
            }
        }
    }

    /// The mean over the pairs of each table, and their weighted sum.
    fn weighted(&self, sums: &LayerSums) -> Option<Loss> {
        let mut total: Option<Tensor<1>> = None;
        let mut parts = Vec::new();
        for (k, compared) in self.matching.both().into_iter().enumerate() {
            if let (Some(compared), Some(sum)) = (compared, sums.get(PARTS[k])) {
                let mean = sum.clone() / compared.places.len() as f32;
                parts.push((PARTS[k], mean.clone().detach()));
                let more = mean * compared.weight.at(self.batch.step);
                total = Some(match total {
                    Some(total) => total + more,
                    None => more,
                });
            }
        }
        total.map(|total| Loss { total, parts })
    }
}

/// Of a state that is all zeros nothing can be learned; its square counts as this.
const LEAST: f32 = 1e-12;

/// `Σ weight · |x − y|² / |y|²`, `[1]`: states x `[B, T, E]` that follow constants y `[B, T, E]`
/// (on a device without autodiff, or detached), positions counting `weights` `[B, T]`.
pub fn relative_error(x: Tensor<3>, y: Tensor<3>, weights: Tensor<2>) -> Tensor<1> {
    let size = (y.clone() * y.clone()).sum_dim(2).clamp_min(LEAST);
    let y = match (x.device().is_autodiff(), y.device().is_autodiff()) {
        (true, false) => [y, size].map(Tensor::from_inner),
        _ => [y, size],
    };
    let [y, size] = y;
    let d = x - y;
    let error = (d.clone() * d).sum_dim(2) / size;
    (error.squeeze_dim::<2>(2) * weights).sum()
}

#[cfg(test)]
mod tests;
