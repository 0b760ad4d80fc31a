//! Mirostat, the second form (arXiv 2007.14966): text whose surprise per token stays near a target.
//!
//! Tokens more surprising than a bound are left out, the bound being moved after every token by how far its surprise
//! was from the target. Surprise is in bits.

use super::candidate::{Candidate, draw};

/// The target and how fast the bound follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// The target: surprise per token, in bits.
    pub tau: f32,
    /// The share of an error by which the bound is moved.
    pub eta: f32,
}

impl Mirostat {
    /// Chooses among `candidates`, whose largest logit is `max`, by the number `at` in [0, 1); moves `bound`.
    pub(super) fn choose(
        self,
        candidates: &mut Vec<Candidate>,
        max: f32,
        temperature: f32,
        at: f64,
        bound: &mut f32,
    ) -> u32 {
        let weight = |logit: f32| ((logit - max) / temperature).exp();
        let total: f64 = candidates.iter().map(|c| f64::from(weight(c.1))).sum();
        // the largest weight is 1, so that its share is 1 / total
        let least = f64::from(-*bound).exp2().min(1.0 / total);
        candidates.retain_mut(|(_, logit)| {
            *logit = weight(*logit);
            f64::from(*logit) / total >= least
        });
        let choice = draw(candidates, at);
        let kept: f64 = candidates.iter().map(|c| f64::from(c.1)).sum();
        let chosen = candidates.iter().find(|c| c.0 == choice);
        let share = chosen.map_or(1.0, |c| f64::from(c.1) / kept);
        *bound -= self.eta * (-share.log2() as f32 - self.tau);
        choice
    }
}
