//! [`Sampler`]: from one row of logits to the next token.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::candidate::{Candidate, draw};
use super::parameters::Sampling;
use super::penalties::Seen;
use super::{filters, full_vocabulary};

/// Draws tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    rng: ChaCha12Rng,
    seen: Seen,
    /// Mirostat's bound on the surprise of a token, in bits.
    pub(super) bound: f32,
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
pub(super) fn uniform(rng: &mut ChaCha12Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
