//! From logits to the next token.
//!
//! In: one row of logits `[vocab_size]`; out: an id. What acts, in this order:
//!
//! 1. `penalties`: logit bias, then repetition, presence and frequency penalties for tokens seen before
//! 2. `filters` on the probabilities at temperature 1: top-k, typical, top-p, min-p
//! 3. the temperature, and a draw
//!
//! Mirostat (`mirostat`) takes the place of 2 and 3; where 2 leaves all tokens, `whole` draws. The same seed and logits give the same ids on every platform:
//! the random numbers are ChaCha12.

mod filters;
mod full_vocabulary;
mod mirostat;
mod penalties;
#[cfg(test)]
mod tests;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use mirostat::Mirostat;
use penalties::Seen;

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
    /// Keep the tokens whose surprise is nearest to the expected one, until they reach this probability (locally
    /// typical sampling, arXiv 2202.00666); 1 keeps all.
    pub typical_p: f32,
    /// Divides the positive logits, and multiplies the negative ones, of tokens that the prompt or the answer has
    /// (CTRL, arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that the answer has.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens that the answer has, as often as it has them.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Holds the surprise of the answer at a target instead of filtering.
    pub mirostat: Option<Mirostat>,
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
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            mirostat: None,
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

    /// The model's own distribution, with nothing left out.
    pub fn plain() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            ..Self::default()
        }
    }

    /// Whether every token stays in question.
    fn keeps_all(&self) -> bool {
        let filters = self.top_k == 0 && self.min_p <= 0.0;
        filters && self.top_p >= 1.0 && self.typical_p >= 1.0 && self.mirostat.is_none()
    }

    /// Checks the ranges; the error names the setting.
    pub fn validate(&self) -> Result<(), String> {
        let check = |fine: bool, name: &str, range: &str, value: f32| match fine {
            true => Ok(()),
            false => Err(format!("{name} must be {range}, not {value}")),
        };
        let t = self.temperature;
        check(t.is_finite() && t >= 0.0, "temperature", "0 or more", t)?;
        for (name, p) in [("top-p", self.top_p), ("typical-p", self.typical_p)] {
            check(p > 0.0 && p <= 1.0, name, "above 0 and at most 1", p)?;
        }
        let p = self.min_p;
        check((0.0..=1.0).contains(&p), "min-p", "between 0 and 1", p)?;
        let r = self.repetition_penalty;
        let fine = r.is_finite() && r > 0.0;
        check(fine, "repetition-penalty", "above 0", r)?;
        for (name, penalty) in [
            ("presence-penalty", self.presence_penalty),
            ("frequency-penalty", self.frequency_penalty),
        ] {
            check(penalty.is_finite(), name, "a number", penalty)?;
        }
        for (_, bias) in &self.logit_bias {
            check(!bias.is_nan(), "logit-bias", "a number", *bias)?;
        }
        if let Some(Mirostat { tau, eta }) = self.mirostat {
            check(tau.is_finite() && tau > 0.0, "mirostat-tau", "above 0", tau)?;
            let fine = (0.0..=1.0).contains(&eta);
            check(fine, "mirostat-eta", "between 0 and 1", eta)?;
        }
        Ok(())
    }
}

/// A token in question: its id and its logit, later its weight.
type Candidate = (u32, f32);

/// Draws tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha12Rng,
    seen: Seen,
    /// Mirostat's bound on the surprise of a token, in bits.
    bound: f32,
    /// Scratch: the logits after bias, penalties and constraint.
    adjusted: Vec<f32>,
    /// Scratch: every token still in question.
    candidates: Vec<Candidate>,
    /// Scratch: the weights of all tokens.
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    pub fn new(settings: Sampling) -> Self {
        Self {
            rng: ChaCha12Rng::seed_from_u64(settings.seed),
            seen: Seen::default(),
            bound: settings.mirostat.map_or(0.0, |mirostat| 2.0 * mirostat.tau),
            adjusted: Vec::new(),
            candidates: Vec::new(),
            weights: Vec::new(),
            settings,
        }
    }

    /// Notes the prompt, for the repetition penalty.
    pub fn prompt(&mut self, tokens: &[u32]) {
        if self.settings.repetition_penalty != 1.0 {
            self.seen.prompt(tokens);
        }
    }

    /// The next token for `logits` `[vocab_size]`. NaN counts as impossible.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        self.sample_where(logits, None)
    }

    /// The same among the tokens that `allowed` says yes to, if there is one with a number for a logit.
    pub fn sample_where(&mut self, logits: &[f32], allowed: Option<&dyn Fn(u32) -> bool>) -> u32 {
        let mut adjusted = std::mem::take(&mut self.adjusted);
        let penalised = self.seen.act(&self.settings) || !self.settings.logit_bias.is_empty();
        let logits = match (penalised, allowed) {
            (false, None) => logits,
            _ => {
                adjusted.clear();
                adjusted.extend_from_slice(logits);
                self.seen.apply(&self.settings, &mut adjusted);
                if let Some(allowed) = allowed {
                    for (id, logit) in adjusted.iter_mut().enumerate() {
                        if !allowed(id as u32) {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
                &adjusted
            }
        };
        let choice = self.choose(logits);
        self.adjusted = adjusted;
        if self.seen.act_on_answer(&self.settings) {
            self.seen.answer(choice);
        }
        choice
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let settings = &self.settings;
        if settings.temperature == 0.0 {
            return argmax(logits);
        }
        let Some(max) = full_vocabulary::largest(logits) else {
            return argmax(logits);
        };
        if settings.keeps_all() {
            let at = uniform(&mut self.rng);
            return full_vocabulary::draw(logits, max, settings.temperature, at, &mut self.weights);
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        let finite = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
        candidates.extend(finite.map(|(id, l)| (id as u32, *l)));
        if let Some(mirostat) = settings.mirostat {
            let draw = uniform(&mut self.rng);
            let temperature = settings.temperature;
            return mirostat.choose(candidates, max, temperature, draw, &mut self.bound);
        }
        filters::top_k(candidates, settings.top_k);
        filters::typical(candidates, settings.typical_p, max);
        // the typical need not have the most likely among them
        let max = candidates.iter().map(|c| c.1).fold(f32::MIN, f32::max);
        filters::top_p(candidates, settings.top_p, max);
        filters::min_p(candidates, settings.min_p, max);
        let temperature = settings.temperature;
        for (_, logit) in candidates.iter_mut() {
            *logit = ((*logit - max) / temperature).exp();
        }
        draw(candidates, uniform(&mut self.rng))
    }
}

/// The candidate at the share `at` in [0, 1) of all weights.
fn draw(candidates: &[Candidate], at: f64) -> u32 {
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
