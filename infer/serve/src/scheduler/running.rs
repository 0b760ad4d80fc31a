//! A running request: how much of it is done, and what each forward pass adds.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use super::prefix_cache::{NodePath, PrefixCache};
use retort_engine::Model;
use retort_engine::decode::{Decoding, End};
use retort_engine::decoder::{Engine, PAGE, Sequence};
use retort_engine::logprobs::Logprob;

/// A running request.
pub(super) struct Running<'w> {
    pub prompt: Vec<u32>,
    pub events: UnboundedSender<Event>,
    pub submitted: Instant,
    pub sequence: Sequence,
    /// Its nodes in the prefix cache, and the pages reserved beside them.
    pub path: NodePath,
    pub reserved: usize,
    /// Tokens of its prompt that another request computed.
    pub reused: usize,
    /// The answer; `None` for an embedding.
    pub decoding: Option<Decoding<'w>>,
    /// Tokens sent, and when the last one was.
    pub emitted: usize,
    pub last_token: Instant,
    /// How many of the likeliest tokens are sent with each token of the prompt; `None` sends no
    /// log-probabilities of the prompt.
    pub prompt_logprobs: Option<usize>,
    /// What is collected over the prompt: log-probabilities, or the sum of the hidden states.
    pub logprobs: Vec<Logprob>,
    pub sum: Vec<f32>,
    /// Why it has finished.
    pub finish: Option<Finish>,
}

/// Why a request has finished.
pub(super) enum Finish {
    Done(End),
    Failed(String),
    Cancelled,
}

impl Running<'_> {
    /// Tokens of the prompt that have not been through the model.
    pub fn prompt_left(&self) -> usize {
        self.prompt.len().saturating_sub(self.sequence.len())
    }

    /// The answer's tokens so far.
    pub fn answer(&self) -> &[u32] {
        self.decoding.as_ref().map_or(&[], Decoding::answer)
    }

    /// Full pages of the prompt.
    pub fn prompt_pages(&self) -> usize {
        self.prompt.len() / PAGE
    }

    /// The tokens of the next forward pass: `n` of the prompt or, once that is done and if `n` is
    /// not 0, the answer's last token and guesses.
    pub fn next_tokens(&mut self, n: usize, model: &Model, guess: bool) -> Vec<u32> {
        let (done, left) = (self.sequence.len(), self.prompt_left());
        match (&mut self.decoding, left) {
            _ if n == 0 => Vec::new(),
            (Some(decoding), 0) => decoding.next_tokens(model, guess).unwrap_or_else(|error| {
                self.finish = Some(Finish::Failed(error.to_string()));
                Vec::new()
            }),
            (None, 0) => Vec::new(),
            _ => self.prompt[done..][..n].to_vec(),
        }
    }

    /// Adds the full pages that it has computed to the prefix cache. Returns how many of its
    /// reserved pages that took.
    pub fn cache_pages(&mut self, cache: &mut PrefixCache, engine: &Engine) -> usize {
        if engine.config().past_trained.ntk_alpha(self.prompt.len()) != 1.0 {
            return 0;
        }
        let text = match &self.decoding {
            Some(decoding) => decoding.text(),
            None => &self.prompt,
        };
        let full = &text[..self.sequence.len().min(text.len())];
        let mut taken = 0;
        let pages = full.as_chunks::<PAGE>().0.iter().enumerate();
        for (index, tokens) in pages.skip(self.path.len()) {
            let depth = self.path.len();
            let sequence = &self.sequence;
            taken += usize::from(cache.extend(&mut self.path, tokens, || sequence.page(index)));
            if self.path.len() == depth {
                break;
            }
        }
        taken
    }

    /// Sends what was collected over the prompt of a request without an answer.
    pub fn finish_without_answer(&mut self) {
        self.send_prompt_logprobs();
        if self.decoding.is_none() {
            let squares: f64 = self.sum.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = 1.0 / squares.sqrt().max(1e-12);
            let mean = self.sum.iter().map(|x| (f64::from(*x) * scale) as f32);
            let _ = self.events.send(Event::Embedding(mean.collect()));
        }
        self.finish = Some(Finish::Done(End::Length));
    }

    /// Sends the log-probabilities of the prompt, if they are asked for, before the first token.
    pub fn send_prompt_logprobs(&mut self) {
        if self.prompt_logprobs.is_some() && self.answer().is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            let _ = self.events.send(Event::Prompt(logprobs));
        }
    }

    /// Samples and sends the tokens that follow from the logits `rows` `[n, vocab_size]` of the
    /// last `n` tokens that went in. Returns how many tokens that is.
    pub fn sample(&mut self, rows: &[f32], model: &Model) -> usize {
        self.send_prompt_logprobs();
        let Some(decoding) = &mut self.decoding else {
            return 0;
        };
        // guesses stay as far as they are accepted
        let before = self.sequence.len() - rows.len() / model.engine.config().vocab_size;
        let tokens = match decoding.accept(model, rows) {
            Ok(tokens) => tokens,
            Err(error) => {
                self.finish = Some(Finish::Failed(error.to_string()));
                return 0;
            }
        };
        self.sequence.truncate(before + tokens.len());
        let count = tokens.len();
        for token in tokens {
            let _ = self.events.send(Event::Token(token.logprob));
        }
        if let Some(end) = decoding.end() {
            self.finish = Some(Finish::Done(end));
        }
        count
    }
}
