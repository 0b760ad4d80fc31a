//! From logits to the next token: greedy, or drawn at a temperature from what top-k, top-p and
//! min-p leave.
//!
//! In: one row of logits `[vocab_size]`; out: an id. The filters act in the order top-k, top-p,
//! min-p, on the probabilities at temperature 1; the temperature then reshapes what is left.
//! The same seed and logits give the same ids on every platform: the random numbers are ChaCha12.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the most likely token; larger values flatten the distribution.
    pub temperature: f32,
    /// Keep only this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one; 0 drops none.
    pub min_p: f32,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks the ranges; the error names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!(
                "temperature must be 0 or more, not {}",
                self.temperature
            ));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!(
                "top-p must be above 0 and at most 1, not {}",
                self.top_p
            ));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(format!("min-p must be between 0 and 1, not {}", self.min_p));
        }
        Ok(())
    }
}

/// Draws tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha12Rng,
    /// Scratch: id and logit, later weight, of every token still in question.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    pub fn new(settings: Sampling) -> Self {
        let rng = ChaCha12Rng::seed_from_u64(settings.seed);
        Self {
            settings,
            rng,
            candidates: Vec::new(),
        }
    }

    /// The next token for `logits` `[vocab_size]`. NaN counts as impossible.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        if self.settings.temperature == 0.0 {
            return argmax(logits);
        }
        self.candidates.clear();
        let finite = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
        self.candidates
            .extend(finite.map(|(id, l)| (id as u32, *l)));
        self.keep_top_k();
        let Some(&(first, max)) = self.candidates.first() else {
            return argmax(logits);
        };
        self.keep_top_p(max);
        self.keep_min_p(max);
        let temperature = self.settings.temperature;
        let mut total = 0.0f64;
        for (_, logit) in &mut self.candidates {
            *logit = ((*logit - max) / temperature).exp();
            total += f64::from(*logit);
        }
        let mut left = uniform(&mut self.rng) * total;
        for &(id, weight) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        first
    }

    /// Orders the candidates by logit, then id, and cuts the list.
    fn keep_top_k(&mut self) {
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let k = self.settings.top_k;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
    }

    fn keep_top_p(&mut self, max: f32) {
        if self.settings.top_p >= 1.0 {
            return;
        }
        let weight = |logit: f32| f64::from((logit - max).exp());
        let total: f64 = self.candidates.iter().map(|c| weight(c.1)).sum();
        let (mut reached, target) = (0.0, f64::from(self.settings.top_p) * total);
        let keep = self.candidates.iter().position(|candidate| {
            reached += weight(candidate.1);
            reached >= target
        });
        if let Some(last) = keep {
            self.candidates.truncate(last + 1);
        }
    }

    fn keep_min_p(&mut self, max: f32) {
        if self.settings.min_p > 0.0 {
            let least = max + self.settings.min_p.ln();
            self.candidates.retain(|candidate| candidate.1 >= least);
        }
    }
}

/// The id of the largest logit, the lowest id among equals; NaN is never chosen over a number.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id as u32, logit);
        }
    }
    best.0
}

/// A number in [0, 1) with 53 random bits.
fn uniform(rng: &mut ChaCha12Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -1.0, 2.0];

    fn draws(settings: Sampling, n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(settings);
        (0..n).map(|_| sampler.sample(&LOGITS)).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draws(Sampling::greedy(), 3), [1, 1, 1]);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, -3.0]), 2);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn a_seed_repeats_itself_and_another_differs() {
        let settings = Sampling::default();
        assert_eq!(draws(settings.clone(), 64), draws(settings.clone(), 64));
        let other = Sampling {
            seed: 1,
            ..settings.clone()
        };
        assert_ne!(draws(settings, 64), draws(other, 64));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let settings = Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            ..Sampling::default()
        };
        let ids = draws(settings, 20_000);
        let total: f32 = LOGITS.iter().map(|l| l.exp()).sum();
        for (id, logit) in LOGITS.iter().enumerate() {
            let share = ids.iter().filter(|&&drawn| drawn as usize == id).count() as f32 / 20_000.0;
            assert!((share - logit.exp() / total).abs() < 0.015, "{id}: {share}");
        }
    }

    #[test]
    fn filters_leave_only_the_likely() {
        let only = |settings: Sampling, allowed: &[u32]| {
            assert!(draws(settings, 500).iter().all(|id| allowed.contains(id)));
        };
        let base = Sampling {
            temperature: 5.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 7,
        };
        only(
            Sampling {
                top_k: 2,
                ..base.clone()
            },
            &[1, 4],
        );
        only(
            Sampling {
                top_p: 0.5,
                ..base.clone()
            },
            &[1, 4],
        );
        only(
            Sampling {
                min_p: 0.3,
                ..base.clone()
            },
            &[1, 2, 4],
        );
    }

    #[test]
    fn logits_without_a_number_do_not_panic() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.sample(&[f32::NAN, f32::NAN]), 0);
        assert_eq!(sampler.sample(&[]), 0);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let top_p = Sampling {
            top_p: 0.0,
            ..Sampling::default()
        };
        assert!(top_p.validate().unwrap_err().contains("top-p"));
        let hot = Sampling {
            temperature: f32::NAN,
            ..Sampling::default()
        };
        assert!(hot.validate().unwrap_err().contains("temperature"));
    }
}
