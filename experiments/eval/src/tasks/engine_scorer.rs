//! Scores by the edge engine on a GGUF file, one context at a time.
//!
//! Consecutive requests with the same context share its keys, values and last logits; their
//! continuations are one batch, each attending to the context and itself only. The common prefix of
//! a context and the one before it (examples, a description) stays in the cache as well.

use std::num::NonZeroUsize;

use retort_engine::Model;
use retort_engine::decoder::Session;
use retort_engine::perplexity::negative_log_likelihood;
use retort_engine::sampling::argmax;

use super::encoder::{Encoder, Request};
use super::scorer::{Likelihood, Scorer};
use crate::error::{Error, Result};

/// Most tokens of continuations in a batch; a longer continuation is a batch of pieces.
const BATCH_TOKENS: usize = 256;

/// Scores by the engine.
pub struct EngineScorer<'m> {
    model: &'m Model,
    encoder: Encoder<'m>,
    max_length: usize,
    session: Option<Session<'m>>,
    /// The ids whose keys and values the session holds.
    cached: Vec<u32>,
    /// The logits `[vocab_size]` after them.
    next: Vec<f32>,
}

impl<'m> EngineScorer<'m> {
    /// A scorer over `model`, whose context is its own or, where that is smaller, `max_length`.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the model has no token that a text can begin with.
    pub fn new(model: &'m Model, max_length: Option<NonZeroUsize>) -> Result<Self> {
        let tokenizer = &model.tokenizer;
        let path = model.engine.gguf().path();
        let Some(prefix) = tokenizer.bos().or(tokenizer.eos()) else {
            let path = path.display();
            return Err(Error::Model(format!(
                "{path}: has neither a begin-of-text nor an end-of-text token; export it with a \
                 tokenizer_config.json that names one"
            )));
        };
        let before = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let encode = |text: &str| {
            let ids = tokenizer.encode(text, false);
            ids.map_err(|problem| Error::Model(format!("{}: {problem}", path.display())))
        };
        let trained = model.engine.config().context_length;
        Ok(Self {
            model,
            encoder: Encoder::new(encode, before.into_iter().collect(), Vec::new(), prefix),
            max_length: max_length.map_or(trained, |most| most.get().min(trained)),
            session: None,
            cached: Vec::new(),
            next: Vec::new(),
        })
    }

    /// A session with room for sequences of `length` that holds `cached` and nothing else.
    fn session(&mut self, length: usize) -> Result<&mut Session<'m>> {
        let session = match self.session.take() {
            Some(mut session) if session.context() >= length => {
                session.truncate(self.cached.len());
                session
            }
            _ => {
                self.cached.clear();
                // Room to spare, so that slightly longer sequences do not need a new session.
                let context = length.next_power_of_two().min(self.max_length).max(length);
                self.model.engine.session(context)?
            }
        };
        Ok(self.session.insert(session))
    }

    /// Computes keys and values of the part of `context` that is not cached, with room for `length`.
    fn prefill(&mut self, context: &[u32], length: usize) -> Result<()> {
        self.session(length)?;
        if self.cached == context && !self.next.is_empty() {
            return Ok(());
        }
        let alike = self.cached.iter().zip(context).take_while(|(a, b)| a == b);
        // The last token is computed again for its logits.
        let common = alike.count().min(context.len() - 1);
        self.cached.truncate(common);
        self.next.clear();
        let session = self.session(length)?;
        let next = session.forward(&context[common..])?.to_vec();
        self.next = next;
        self.cached.extend_from_slice(&context[common..]);
        Ok(())
    }

    /// Answers requests with the same context.
    fn answer(&mut self, requests: &[Request]) -> Result<Vec<Likelihood>> {
        let lengths = requests.iter().map(|request| request.input().count());
        let longest = lengths.max().unwrap_or(1);
        let past_trained = self.model.engine.config().past_trained;
        if past_trained.ntk_alpha(longest) != 1.0 {
            return requests.iter().map(|request| self.alone(request)).collect();
        }
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        self.prefill(&first.context, longest)?;
        let mut answers: Vec<Likelihood> = requests
            .iter()
            .map(|request| likelihood(&self.next, request.continuation[0]))
            .collect();
        let mut from = 0;
        while from < requests.len() {
            let mut tokens = 0;
            let fits = requests[from..].iter().take_while(|request| {
                tokens += request.continuation.len() - 1;
                tokens <= BATCH_TOKENS
            });
            let to = from + fits.count().max(1);
            self.continue_with(&requests[from..to], &mut answers[from..to], longest)?;
            from = to;
        }
        Ok(answers)
    }

    /// Adds to `answers` the likelihoods of all but the first tokens of the continuations.
    fn continue_with(
        &mut self,
        requests: &[Request],
        answers: &mut [Likelihood],
        length: usize,
    ) -> Result<()> {
        let engine = &self.model.engine;
        let (vocabulary, pool) = (engine.config().vocab_size, engine.pool());
        let inputs: Vec<&[u32]> = requests
            .iter()
            .map(|r| &r.continuation[..r.continuation.len() - 1])
            .collect();
        // The request of each row of logits, and the token that should follow.
        let rows: Vec<(usize, u32)> = requests
            .iter()
            .enumerate()
            .flat_map(|(i, request)| request.continuation[1..].iter().map(move |&id| (i, id)))
            .collect();
        let visit = |first: usize, logits: &[f32]| {
            let mut found = vec![CERTAIN; logits.len() / vocabulary];
            pool.rows(&mut found, 1, 1, |row, found| {
                let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
                found[0] = likelihood(logits, rows[first + row].1);
            });
            for (found, (request, _)) in found.iter().zip(&rows[first..]) {
                add(&mut answers[*request], found);
            }
        };
        let session = self.session(length)?;
        match inputs.as_slice() {
            [one] if one.len() > BATCH_TOKENS => session.forward_all(one, 0, visit)?,
            several => session.forward_branches(several, visit)?,
        }
        Ok(())
    }

    /// Answers a request whose length decides the rotary frequencies (dynamic NTK): nothing is shared.
    fn alone(&mut self, request: &Request) -> Result<Likelihood> {
        let input: Vec<u32> = request.input().collect();
        self.cached.clear();
        let vocabulary = self.model.engine.config().vocab_size;
        let from = request.context.len() - 1;
        let mut answer = CERTAIN;
        let session = self.session(input.len())?;
        session.forward_all(&input, from, |first, logits| {
            let targets = &request.continuation[first - from..];
            for (logits, &target) in logits.chunks_exact(vocabulary).zip(targets) {
                add(&mut answer, &likelihood(logits, target));
            }
        })?;
        Ok(answer)
    }
}

/// The likelihood of an empty continuation.
const CERTAIN: Likelihood = Likelihood {
    log_likelihood: 0.0,
    greedy: true,
};

fn add(sum: &mut Likelihood, part: &Likelihood) {
    sum.log_likelihood += part.log_likelihood;
    sum.greedy &= part.greedy;
}

/// The likelihood of `target` by `logits` `[vocab_size]`.
fn likelihood(logits: &[f32], target: u32) -> Likelihood {
    let place = (target as usize).min(logits.len());
    let (before, from) = logits.split_at(place);
    let greedy = from.split_first().is_some_and(|(own, after)| {
        before.iter().all(|l| l < own) && after.iter().all(|l| l <= own)
    });
    Likelihood {
        log_likelihood: -negative_log_likelihood(logits, target),
        greedy,
    }
}

impl Scorer for EngineScorer<'_> {
    fn encoder(&self) -> &Encoder<'_> {
        &self.encoder
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn score(
        &mut self,
        requests: &[Request],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Likelihood>> {
        let mut answers = Vec::with_capacity(requests.len());
        for group in requests.chunk_by(|a, b| a.context == b.context) {
            answers.extend(self.answer(group)?);
            done(answers.len());
        }
        Ok(answers)
    }

    fn write(
        &mut self,
        prompt: &[u32],
        most: usize,
        enough: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String> {
        let tokenizer = &self.model.tokenizer;
        self.prefill(prompt, prompt.len() + most)?;
        let mut next = argmax(&self.next);
        let mut ids = Vec::new();
        let mut text = String::new();
        while !tokenizer.is_end_of_generation(next) && tokenizer.eos() != Some(next) {
            ids.push(next);
            text = tokenizer.decode(&ids);
            if ids.len() == most || enough(&text) {
                break;
            }
            // The completion follows the prompt in the cache; `session` truncates it before the next prompt.
            let session = self.session.as_mut().expect("made by prefill");
            next = argmax(session.forward(&[next])?);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_is_the_likeliest() {
        let greedy = |target| likelihood(&[0.0, 2.0, 2.0, 1.0], target).greedy;
        assert_eq!([0, 1, 2, 3].map(greedy), [false, true, false, false]);
        assert!(!likelihood(&[0.0], 1).greedy);
        assert!((likelihood(&[0.0, 0.0], 1).log_likelihood + 2f64.ln()).abs() < 1e-9);
    }
}
