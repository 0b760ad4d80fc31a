//! Log-probabilities of a chosen token and of the likeliest tokens in its place.
//!
//! They are the model's own: natural logarithms of the softmax of its logits `[vocab_size]`, before penalties, filters
//! and temperature.

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprob {
    /// Its id.
    pub id: u32,
    /// The logarithm of its probability; 0 where none was asked for.
    pub logprob: f32,
    /// The likeliest tokens in its place, the most likely first.
    pub top: Vec<(u32, f32)>,
}

impl Logprob {
    /// A token whose probability nobody asked for.
    pub fn unknown(id: u32) -> Self {
        Self {
            id,
            logprob: 0.0,
            top: Vec::new(),
        }
    }

    /// Token `id` under `logits` `[vocab_size]`, with the `n` likeliest.
    pub fn of(id: u32, logits: &[f32], n: usize) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits
            .iter()
            .map(|logit| f64::from((logit - max).exp()))
            .sum();
        let norm = max + total.ln() as f32;
        let at = |id: u32| {
            logits
                .get(id as usize)
                .map_or(f32::NEG_INFINITY, |logit| logit - norm)
        };
        let mut order: Vec<u32> = Vec::new();
        if n > 0 {
            order = (0..logits.len() as u32).collect();
            let by = |a: &u32, b: &u32| at(*b).total_cmp(&at(*a)).then(a.cmp(b));
            if n < order.len() {
                order.select_nth_unstable_by(n - 1, by);
                order.truncate(n);
            }
            order.sort_unstable_by(by);
        }
        Self {
            id,
            logprob: at(id),
            top: order.into_iter().map(|id| (id, at(id))).collect(),
        }
    }
}
