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

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use retort_format::ModelConfig;
use retort_model::{Decoder, LayerwiseForward};
use retort_train::{BatchTensors, Loss, layer_by_layer};
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

/// The sums over the pairs so far: each table's total, unweighted.
#[derive(Default)]
struct Sums([Option<Tensor<1>>; 2]);

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

    /// What the teacher must show of itself. Depth d is what comes out of layer d − 1.
    pub fn wanted(&self) -> RequestedStates {
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

    /// What comes out of layer `i` if `x` goes in; what it is compared to is added to `sums`.
    fn layer(
        &self,
        (model, forward): (&Decoder, &LayerwiseForward<'_>),
        i: usize,
        x: Tensor<3>,
        (states, weights): (&HiddenStates, &Tensor<2>),
        sums: &mut Sums,
    ) -> Tensor<3> {
        let here = |c: &Compared| c.places.iter().any(|p| p.student == i);
        let (attention, y) = if self.attention.as_ref().is_some_and(here) {
            let [attention, y] = forward.attention_and_layer(i, x);
            (Some(attention), y)
        } else {
            (None, forward.layer(i, x))
        };
        let ours = [Some(&y), attention.as_ref()];
        let theirs = [(&states.hidden, 1), (&states.attention, 0)];
        for (k, compared) in self.both().into_iter().enumerate() {
            let places = compared.iter().flat_map(|c| &c.places);
            for place in places.filter(|p| p.student == i) {
                let (Some(x), (states, more)) = (ours[k], theirs[k]) else {
                    continue;
                };
                let x = match place.projection {
                    Some(p) => model.project(p, x.clone()),
                    None => x.clone(),
                };
                let y = states[&(place.teacher + more)].clone();
                let error = relative_error(x, y, weights.clone());
                sums.add(k, error);
            }
        }
        y
    }

    /// The mean over the pairs of each table in `sums`, and their weighted sum after `step`
    /// updates.
    fn counted(
        &self,
        sums: &Sums,
        step: u64,
    ) -> (Option<Tensor<1>>, Vec<(&'static str, Tensor<1>)>) {
        let mut total: Option<Tensor<1>> = None;
        let mut parts = Vec::new();
        for (k, compared) in self.both().into_iter().enumerate() {
            if let (Some(compared), Some(sum)) = (compared, &sums.0[k]) {
                let mean = sum.clone() / compared.places.len() as f32;
                parts.push((PARTS[k], mean.clone().detach()));
                let more = mean * compared.weight.at(step);
                total = Some(match total {
                    Some(total) => total + more,
                    None => more,
                });
            }
        }
        (total, parts)
    }

    /// The loss of `model` on `batch`, whose teacher has `states`: what `outputs` says of its
    /// last layer's normed output, and what is compared on the way there. `sparing`, the
    /// backward pass runs a layer at a time (see `retort_train`'s `recompute.rs`).
    ///
    /// # Errors
    /// Those of `outputs`.
    pub fn backward(
        &self,
        model: &Decoder,
        batch: &BatchTensors,
        states: &HiddenStates,
        sparing: bool,
        outputs: &mut dyn FnMut(Tensor<3>) -> retort_train::Result<Loss>,
        take: &mut dyn FnMut(GradientsParams),
    ) -> retort_train::Result<Loss> {
        let teacher = (states, &batch.weights);
        let mut sums = Sums::default();
        if !sparing {
            let forward = model.layerwise(batch.inputs.clone(), batch.documents.as_ref());
            let mut x = forward.embedded();
            for i in 0..model.layers.len() {
                x = self.layer((model, &forward), i, x, teacher, &mut sums);
            }
            let mut loss = outputs(forward.normed(x))?;
            let (more, parts) = self.counted(&sums, batch.step);
            if let Some(more) = more {
                loss.total = loss.total + more;
            }
            loss.parts.extend(parts);
            take(GradientsParams::from_grads(
                loss.total.clone().backward(),
                model,
            ));
            return Ok(loss);
        }

        let mut layer = |forward: &LayerwiseForward<'_>, i: usize, x: Tensor<3>| {
            let mut here = Sums::default();
            let y = self.layer((model, forward), i, x, teacher, &mut here);
            let (more, _) = self.counted(&here, batch.step);
            for (k, sum) in here.0.into_iter().enumerate() {
                if let Some(sum) = sum {
                    sums.add(k, sum.detach());
                }
            }
            (y, more)
        };
        let mut loss = layer_by_layer(model, batch, &mut layer, outputs, take)?;
        let (more, parts) = self.counted(&sums, batch.step);
        if let Some(more) = more {
            loss.total = loss.total + more;
        }
        loss.parts.extend(parts);
        Ok(loss)
    }
}

impl Sums {
    fn add(&mut self, k: usize, error: Tensor<1>) {
        self.0[k] = Some(match self.0[k].take() {
            Some(sum) => sum + error,
            None => error,
        });
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
