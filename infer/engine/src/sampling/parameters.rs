//! How tokens are chosen: temperature, filters, penalties.

use super::mirostat::Mirostat;

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
    pub(super) fn keeps_all(&self) -> bool {
        let filters = self.top_k == 0 && self.min_p <= 0.0;
        filters && self.top_p >= 1.0 && self.typical_p >= 1.0 && self.mirostat.is_none()
    }

    /// Checks the ranges; the error names the setting.
    pub fn validate(&self) -> Result<(), String> {
        let check = |fine: bool, name: &str, range: &str, value: f32| {
            if fine {
                Ok(())
            } else {
                Err(format!("{name} must be {range}, not {value}"))
            }
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
