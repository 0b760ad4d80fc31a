//! What the tokens seen so far, and the caller's bias, do to logits.
//!
//! The repetition penalty acts on tokens of prompt and answer; presence and frequency, as OpenAI's API defines them,
//! on those of the answer.

use std::collections::HashMap;

use super::parameters::Sampling;

/// The tokens seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How often each token is in the answer; 0 for those of the prompt alone.
    counts: HashMap<u32, u32>,
}

impl Seen {
    /// Notes tokens of the prompt.
    pub(super) fn prompt(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.counts.entry(token).or_insert(0);
        }
    }

    /// Notes a token of the answer.
    pub(super) fn answer(&mut self, token: u32) {
        *self.counts.entry(token).or_insert(0) += 1;
    }

    /// Whether what has been seen changes any logit.
    pub(super) fn act(&self, settings: &Sampling) -> bool {
        !self.counts.is_empty() && self.act_on_answer(settings)
    }

    /// Whether tokens of the answer need to be noted.
    pub(super) fn act_on_answer(&self, settings: &Sampling) -> bool {
        settings.repetition_penalty != 1.0
            || settings.presence_penalty != 0.0
            || settings.frequency_penalty != 0.0
    }

    /// Changes `logits` `[vocab_size]`; tokens outside the vocabulary are passed over.
    pub(super) fn apply(&self, settings: &Sampling, logits: &mut [f32]) {
        for &(id, bias) in &settings.logit_bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        for (&id, &count) in &self.counts {
            let Some(logit) = logits.get_mut(id as usize) else {
                continue;
            };
            if *logit > 0.0 {
                *logit /= settings.repetition_penalty
            } else {
                *logit *= settings.repetition_penalty
            }
            if count > 0 {
                *logit -= settings.presence_penalty + settings.frequency_penalty * count as f32;
            }
        }
    }
}
