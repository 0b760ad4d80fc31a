//! A teacher's distributions over the next token at N positions: all logits, or a few
//! probabilities of each position.

use std::fmt;
use std::ops::Range;

/// Logits `[n, V]`, row by row, of a range of positions.
pub type LogitsOf = Box<dyn Fn(Range<usize>) -> Vec<f32> + Send + Sync>;

/// A teacher's distributions at N positions.
pub enum TeacherLogits {
    /// Its logits, computed when they are due.
    Dense {
        /// Ids that they are of, V.
        vocabulary: usize,
        /// Where they come from.
        logits: LogitsOf,
    },
    /// A few probabilities of each position.
    Sparse(Sparse),
}

impl fmt::Debug for TeacherLogits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense { vocabulary, .. } => write!(f, "Dense({vocabulary} ids)"),
            Self::Sparse(sparse) => sparse.fmt(f),
        }
    }
}

/// A few probabilities of each of N positions, at [`LossWeights::temperature`](super::LossWeights::temperature).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Ids that the distribution is over, at most as many as the student's.
    pub vocabulary: usize,
    /// Where each position's entries start, and where the last one's end, `[N + 1]`.
    pub offsets: Vec<usize>,
    /// Ids below `vocabulary`, no id twice in a position.
    pub ids: Vec<u32>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
    /// The probability outside the entries.
    pub tail: Tail,
}

/// The probability of the ids that are not among a position's entries.
#[derive(Clone, Debug, PartialEq)]
pub enum Tail {
    /// Their probability together, `[N]`: they are compared as one outcome.
    Mass(Vec<f32>),
    /// The entries are a random sample that stands for all (Anshumann et al., arXiv
    /// 2503.16870); `[N]` entropies of the distributions in nats. Only [`LossWeights::forward_kl`](super::LossWeights::forward_kl)
    /// can be estimated from it: its estimate, and its gradient's, are unbiased.
    Sampled(Vec<f32>),
}

impl Default for Tail {
    fn default() -> Self {
        Self::Mass(Vec::new())
    }
}

impl TeacherLogits {
    /// Ids that the teacher's distributions are over.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Dense { vocabulary, .. } => *vocabulary,
            Self::Sparse(sparse) => sparse.vocabulary,
        }
    }
}

impl Sparse {
    /// The entries of position `i`: ids and probabilities.
    pub fn entries(&self, i: usize) -> (&[u32], &[f32]) {
        let at = self.offsets[i]..self.offsets[i + 1];
        (&self.ids[at.clone()], &self.probabilities[at])
    }
}
