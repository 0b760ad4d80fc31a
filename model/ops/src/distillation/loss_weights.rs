//! How much each part of a distillation loss counts, and at which temperature.

/// The weight of each divergence of the student's distribution q from the teacher's p, and of the
/// text's cross entropy. All are 0 where there is no loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// T, above 0.
    pub temperature: f32,
    /// Of the text's next ids, at temperature 1.
    pub cross_entropy: f32,
    /// KL(p ‖ q) = Σ p log(p / q).
    pub forward_kl: f32,
    /// KL(q ‖ p).
    pub reverse_kl: f32,
    /// β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q (Agarwal et al., GKD, arXiv
    /// 2306.13649).
    pub jensen_shannon: f32,
    /// β of it, between 0 and 1 and neither.
    pub beta: f32,
    /// ½ Σ |p − q|.
    pub total_variation: f32,
    /// Positions whose logits exist at once, at most; 0 leaves it to the vocabulary.
    pub chunk: usize,
}

impl Default for LossWeights {
    /// Nothing, at temperature 1.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            cross_entropy: 0.0,
            forward_kl: 0.0,
            reverse_kl: 0.0,
            jensen_shannon: 0.0,
            beta: 0.5,
            total_variation: 0.0,
            chunk: 0,
        }
    }
}

impl LossWeights {
    /// The divergences' weights: forward KL, reverse KL, Jensen-Shannon, total variation.
    pub fn divergences(&self) -> [f32; 4] {
        [
            self.forward_kl,
            self.reverse_kl,
            self.jensen_shannon,
            self.total_variation,
        ]
    }
}
