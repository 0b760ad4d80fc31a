//! `[teacher.losses]`: what counts how much, and when.
//!
//! In: the table. Out: a [`LossWeights`] for every step.

use retort_model::LossWeights;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a loss counts: the same always, or more or less by and by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Weight {
    /// Always the same.
    Constant(f32),
    /// `from` at the first step, `to` after `steps` of them, on a line between.
    Line(Line),
}

/// A weight that changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// At the first step.
    pub from: f32,
    /// In the end.
    pub to: f32,
    /// Steps from the one to the other.
    pub steps: u64,
}

impl Weight {
    /// What it is after `step` updates.
    pub fn at(self, step: u64) -> f32 {
        match self {
            Self::Constant(weight) => weight,
            Self::Line(Line { from, to, steps }) => {
                let share = step as f64 / steps.max(1) as f64;
                from + (to - from) * share.min(1.0) as f32
            }
        }
    }

    /// # Errors
    /// [`Error::Config`] names `key` where it can be below 0 or is no number.
    pub(crate) fn check(self, key: &str) -> Result<()> {
        match self.ends().iter().all(|w| w.is_finite() && *w >= 0.0) {
            true => Ok(()),
            false => Err(Error::Config(format!("{key}: must be 0 or more"))),
        }
    }

    /// Every value it can take lies between these.
    pub(crate) fn ends(self) -> [f32; 2] {
        match self {
            Self::Constant(weight) => [weight; 2],
            Self::Line(line) => [line.from, line.to],
        }
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

/// The weights of the losses, 0 where they are not given; without the table, half of the
/// forward divergence and half of the text's cross entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// The text's own cross entropy.
    #[serde(default)]
    pub cross_entropy: Weight,
    /// KL(teacher ‖ student).
    #[serde(default)]
    pub forward_kl: Weight,
    /// KL(student ‖ teacher).
    #[serde(default)]
    pub reverse_kl: Weight,
    /// The generalised Jensen-Shannon divergence.
    #[serde(default)]
    pub jensen_shannon: Weight,
    /// Its β, the teacher's share of the mixture: above 0 and below 1.
    #[serde(default = "half")]
    pub beta: f32,
    /// ½ Σ |p − q|.
    #[serde(default)]
    pub total_variation: Weight,
}

fn half() -> f32 {
    0.5
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            cross_entropy: Weight::Constant(0.5),
            forward_kl: Weight::Constant(0.5),
            reverse_kl: Weight::default(),
            jensen_shannon: Weight::default(),
            beta: half(),
            total_variation: Weight::default(),
        }
    }
}

impl Losses {
    fn named(&self) -> [(&'static str, Weight); 5] {
        [
            ("cross_entropy", self.cross_entropy),
            ("forward_kl", self.forward_kl),
            ("reverse_kl", self.reverse_kl),
            ("jensen_shannon", self.jensen_shannon),
            ("total_variation", self.total_variation),
        ]
    }

    /// # Errors
    /// [`Error::Config`] names the key that no loss can have.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |key: &str, what: &str| Err(Error::Config(format!("losses.{key}: {what}")));
        for (key, weight) in self.named() {
            weight.check(&format!("losses.{key}"))?;
        }
        if !(self.beta > 0.0 && self.beta < 1.0) {
            return bad("beta", "must be above 0 and below 1");
        }
        if self.named().iter().all(|(_, w)| *w == Weight::default()) {
            return Err(Error::Config(
                "losses: all are 0: give one of them a weight".into(),
            ));
        }
        Ok(())
    }

    /// Divergences that ever count.
    pub(crate) fn divergences(&self) -> impl Iterator<Item = &'static str> {
        let named = self.named().into_iter().skip(1);
        named.filter_map(|(name, w)| (w.ends() != [0.0; 2]).then_some(name))
    }

    /// The mixture after `step` updates, at a temperature; `chunk` as in [`LossWeights`].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_move_on_a_line_and_stay() {
        let weight = Weight::Line(Line {
            from: 1.0,
            to: 0.2,
            steps: 4,
        });
        let at: Vec<f32> = (0..7).map(|step| weight.at(step)).collect();
        for (got, expect) in at.iter().zip([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]) {
            assert!((got - expect).abs() < 1e-6, "{at:?}");
        }
        assert_eq!(Weight::Constant(0.3).at(9), 0.3);
    }
}
