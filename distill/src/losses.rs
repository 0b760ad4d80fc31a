//! `[teacher.losses]`: the weight of each loss over the steps.
//!
//! In: the table. Out: a [`LossWeights`] for each step.

use retort_model::LossWeights;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::schedule::WeightSchedule;

/// The weights of the losses; 0 where a key is absent. Without the table the forward divergence
/// and the text's cross entropy have 0.5 each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossesConfig {
    /// Cross entropy with the text.
    #[serde(default)]
    pub cross_entropy: WeightSchedule,
    /// KL(teacher ‖ student).
    #[serde(default)]
    pub forward_kl: WeightSchedule,
    /// KL(student ‖ teacher).
    #[serde(default)]
    pub reverse_kl: WeightSchedule,
    /// The generalised Jensen-Shannon divergence.
    #[serde(default)]
    pub jensen_shannon: WeightSchedule,
    /// The β of the Jensen-Shannon divergence: the teacher's share of the mixture, in (0, 1).
    #[serde(default = "half")]
    pub beta: f32,
    /// Total variation, ½ Σ |p − q|.
    #[serde(default)]
    pub total_variation: WeightSchedule,
}

fn half() -> f32 {
    0.5
}

impl Default for LossesConfig {
    fn default() -> Self {
        Self {
            cross_entropy: WeightSchedule::Constant(0.5),
            forward_kl: WeightSchedule::Constant(0.5),
            reverse_kl: WeightSchedule::default(),
            jensen_shannon: WeightSchedule::default(),
            beta: half(),
            total_variation: WeightSchedule::default(),
        }
    }
}

impl LossesConfig {
    fn named(&self) -> [(&'static str, WeightSchedule); 5] {
        [
            ("cross_entropy", self.cross_entropy),
            ("forward_kl", self.forward_kl),
            ("reverse_kl", self.reverse_kl),
            ("jensen_shannon", self.jensen_shannon),
            ("total_variation", self.total_variation),
        ]
    }

    /// # Errors
    /// [`Error::Config`] names the key that is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |key: &str, what: &str| Err(Error::Config(format!("losses.{key}: {what}")));
        for (key, weight) in self.named() {
            weight.check(&format!("losses.{key}"))?;
        }
        if !(self.beta > 0.0 && self.beta < 1.0) {
            return bad("beta", "must be above 0 and below 1");
        }
        if self
            .named()
            .iter()
            .all(|(_, w)| *w == WeightSchedule::default())
        {
            return Err(Error::Config(
                "losses: all are 0: give one of them a weight".into(),
            ));
        }
        Ok(())
    }

    /// The keys of the divergences with a weight above 0 at any step.
    pub(crate) fn divergences(&self) -> impl Iterator<Item = &'static str> {
        let named = self.named().into_iter().skip(1);
        named.filter_map(|(name, w)| (w.range() != [0.0; 2]).then_some(name))
    }

    /// The weights after `step` updates, with the given `temperature` and `chunk` (see [`LossWeights`]).
    pub fn at(&self, step: u64, temperature: f32, chunk: usize) -> LossWeights {
        LossWeights {
            temperature,
            cross_entropy: self.cross_entropy.at(step),
            forward_kl: self.forward_kl.at(step),
            reverse_kl: self.reverse_kl.at(step),
            jensen_shannon: self.jensen_shannon.at(step),
            beta: self.beta,
            total_variation: self.total_variation.at(step),
            chunk,
        }
    }
}
