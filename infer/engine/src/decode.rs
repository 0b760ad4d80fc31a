//! The decode loop: which token follows, when an answer ends, and which guesses are checked ahead.
//!
//! ```text
//! Decoding::next_tokens ─► the last token and guesses [n] ─► forward pass ─► logits [n, vocab_size] ─► Decoding::accept
//! ```
//!
//! [`Decoding`] is the state of one answer. `run` and `chat` drive it with one session ([`decode`]); the scheduler drives
//! many, one row block of a batch each. Sampling, constraints, log-probabilities and speculation work alike in all of them.

use std::ops::ControlFlow;

use crate::constrain::Constraint;
use crate::decoder::Session;
use crate::logprobs::Logprob;
use crate::model::Model;
use crate::sampling::{Sampler, Sampling};
use crate::speculate::{Drafter, MAX_GUESSES, Speculated};
use retort_format::{Error, Result};

/// How an answer is made.
#[derive(Debug)]
pub struct DecodeOptions {
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// How many of the likeliest tokens to tell with each token; `None` computes no probabilities.
    pub logprobs: Option<usize>,
    /// Whether to go on past the model's end of text.
    pub ignore_end: bool,
}

impl DecodeOptions {
    /// Up to `max_tokens` tokens chosen by `sampling`, until the model ends its text.
    pub fn new(max_tokens: usize, sampling: &Sampling) -> Self {
        Self {
            max_tokens,
            sampling: sampling.clone(),
            constraint: None,
            logprobs: None,
            ignore_end: false,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it, or the form it was held to is complete.
    Stop,
    /// It has the most tokens that it may have.
    Length,
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id, and its probability where asked for.
    pub logprob: Logprob,
    /// Whether it ends the answer and is no part of it.
    pub is_end: bool,
}

/// One answer on its way.
pub struct Decoding<'d> {
    /// The prompt and the answer so far; the last token has not gone through the model.
    text: Vec<u32>,
    prompt_tokens: usize,
    options: DecodeOptions,
    sampler: Sampler,
    drafter: Option<Box<dyn Drafter + 'd>>,
    /// Guesses that went in with the last token.
    guesses: Vec<u32>,
    speculated: Speculated,
    end: Option<End>,
}

impl<'d> Decoding<'d> {
    /// An answer to the ids `prompt`; `drafter` guesses ahead.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for sampling options outside their ranges.
    pub fn new(
        prompt: &[u32],
        options: DecodeOptions,
        drafter: Option<Box<dyn Drafter + 'd>>,
    ) -> Result<Self> {
        options.sampling.validate().map_err(Error::Argument)?;
        let mut sampler = Sampler::new(options.sampling.clone());
        sampler.prompt(prompt);
        Ok(Self {
            text: prompt.to_vec(),
            prompt_tokens: prompt.len(),
            end: (options.max_tokens == 0).then_some(End::Length),
            options,
            sampler,
            drafter,
            guesses: Vec::new(),
            speculated: Speculated::default(),
        })
    }

    /// The answer's tokens so far.
    pub fn answer(&self) -> &[u32] {
        &self.text[self.prompt_tokens..]
    }

    /// The prompt and the answer so far.
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// Why it has ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// How guessing went.
    pub fn speculated(&self) -> Speculated {
        self.speculated
    }

    /// The tokens that go through the model next: the last one and, if `guess`, guesses at those that follow.
    ///
    /// # Errors
    ///
    /// Those of the drafter.
    pub fn next_tokens(&mut self, model: &Model, guess: bool) -> Result<Vec<u32>> {
        self.guesses.clear();
        // n guesses give n + 1 choices
        let room = self
            .options
            .max_tokens
            .saturating_sub(self.answer().len() + 1);
        if let Some(drafter) = self.drafter.as_mut().filter(|_| guess && room > 0) {
            self.guesses = drafter.draft(&self.text, room.min(MAX_GUESSES))?;
            let known = model.engine.config().vocab_size;
            let unknown =
                |&id: &u32| id as usize >= known || model.tokenizer.is_end_of_generation(id);
            let plausible = self.guesses.iter().position(unknown);
            self.guesses
                .truncate(plausible.unwrap_or(self.guesses.len()));
        }
        let last = self.text.last().copied();
        Ok(last
            .into_iter()
            .chain(self.guesses.iter().copied())
            .collect())
    }

    /// Chooses what follows from the logits `rows` `[n, vocab_size]` of the last tokens that went in, up to the first
    /// choice that was not guessed. As many of these tokens stay in the cache as there are choices.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the constraint cannot be followed.
    pub fn accept(&mut self, model: &Model, rows: &[f32]) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for (i, logits) in rows
            .chunks_exact(model.engine.config().vocab_size)
            .enumerate()
        {
            let token = self.choose(model, logits)?;
            let id = token.logprob.id;
            tokens.push(token);
            if self.end.is_some() || self.guesses.get(i) != Some(&id) {
                break;
            }
        }
        self.speculated.drafted += self.guesses.len();
        self.speculated.accepted += tokens.len().saturating_sub(1);
        self.guesses.clear();
        Ok(tokens)
    }

    /// Chooses the next token and notes it.
    fn choose(&mut self, model: &Model, logits: &[f32]) -> Result<Token> {
        let broken = |problem: &str| Error::Argument(format!("the answer's form: {problem}"));
        let constraint = &mut self.options.constraint;
        let allowed = constraint.as_mut().map(|constraint| constraint.allowed());
        let allowed = allowed.transpose().map_err(|problem| broken(&problem))?;
        let id = match &allowed {
            Some(allowed) => self
                .sampler
                .sample_where(logits, Some(&|id| allowed.has(id))),
            None => self.sampler.sample(logits),
        };
        if allowed.as_ref().is_some_and(|allowed| !allowed.has(id)) {
            let problem = "no token of the vocabulary continues the answer's form";
            return Err(Error::Argument(problem.into()));
        }
        let ends = model.tokenizer.is_end_of_generation(id);
        if let Some(constraint) = constraint.as_mut().filter(|_| !ends) {
            constraint.take(id).map_err(|problem| broken(&problem))?;
        }
        let logprob = match self.options.logprobs {
            Some(n) => Logprob::of(id, logits, n),
            None => Logprob::unknown(id),
        };
        let complete = constraint
            .as_ref()
            .is_some_and(|constraint| constraint.is_complete());
        let is_end = ends && !(self.options.ignore_end && constraint.is_none());
        if is_end {
            self.end = Some(End::Stop);
        } else {
            self.text.push(id);
            if complete {
                self.end = Some(End::Stop);
            } else if self.answer().len() >= self.options.max_tokens {
                self.end = Some(End::Length);
            }
        }
        Ok(Token { logprob, is_end })
    }
}

/// Goes on with `decoding`, whose prompt `session` has taken in, until it ends or `on_token` breaks; returns the number
/// of forward passes.
///
/// # Errors
///
/// Those of the model, the drafter and the constraint.
pub fn decode(
    model: &Model,
    session: &mut Session,
    decoding: &mut Decoding,
    mut on_token: impl FnMut(&Token) -> ControlFlow<()>,
) -> Result<usize> {
    let mut passes = 0;
    if decoding.end().is_some() {
        return Ok(passes);
    }
    let mut tokens = decoding.accept(model, session.last_logits()?)?;
    loop {
        for token in &tokens {
            if on_token(token).is_break() {
                return Ok(passes);
            }
        }
        if decoding.end().is_some() {
            return Ok(passes);
        }
        let taken = session.len();
        let step = decoding.next_tokens(model, true)?;
        let mut accepted = Ok(Vec::new());
        session.forward_all(&step, 0, |_, rows| accepted = decoding.accept(model, rows))?;
        tokens = accepted?;
        session.truncate(taken + tokens.len());
        passes += 1;
    }
}
