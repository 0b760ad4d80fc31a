//! Tokens in question, and a draw among them.

/// A token in question: its id and its logit, later its weight.
pub(super) type Candidate = (u32, f32);

/// The candidate at the share `at` in [0, 1) of all weights.
pub(super) fn draw(candidates: &[Candidate], at: f64) -> u32 {
    let total: f64 = candidates.iter().map(|c| f64::from(c.1)).sum();
    let mut left = at * total;
    for &(id, weight) in candidates {
        left -= f64::from(weight);
        if left < 0.0 {
            return id;
        }
    }
    candidates.last().map_or(0, |candidate| candidate.0)
}
