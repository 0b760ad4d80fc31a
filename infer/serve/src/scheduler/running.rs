//! A request that is worked on: how far it is, and what each pass brings it.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use super::prefix_cache::{Pages, Path};
use retort_engine::Model;
use retort_engine::decode::{Decoding, End};
use retort_engine::decoder::{Engine, PAGE, Sequence};
use retort_engine::logprobs::Logprob;

/// A request that is worked on.
pub(super) struct Running<'w> {
    pub prompt: Vec<u32>,
    pub events: UnboundedSender<Event>,
    pub since: Instant,
    pub sequence: Sequence,
    /// Its pages in the tree, and pages promised beside them.
    pub path: Path,
    pub reserved: usize,
    /// Tokens of its prompt that another request computed.
    pub reused: usize,
    /// The answer; none where the prompt's states are asked for.
    pub decoding: Option<Decoding<'w>>,
    /// Tokens sent, and when the last one was.
    pub emitted: usize,
    pub last_token: Instant,
    /// How many of the likeliest tokens are told with each token of the prompt, if any are.
    pub prompt_logprobs: Option<usize>,
    /// What is gathered over the prompt: its probabilities, or its states' sum.
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
    /// Tokens of the prompt that have not been taken in.
    pub fn unread(&self) -> usize {
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

    /// The tokens that come next: `n` of the prompt or, if `n` is not 0, the answer's last one and guesses.
    pub fn next_tokens(&mut self, n: usize, model: &Model, guess: bool) -> Vec<u32> {
        let (read, unread) = (self.sequence.len(), self.unread());
        match (&mut self.decoding, unread) {
            _ if n == 0 => Vec::new(),
            (Some(decoding), 0) => decoding.next_tokens(model, guess).unwrap_or_else(|error| {
                self.finish = Some(Finish::Failed(error.to_string()));
                Vec::new()
            }),
            (None, 0) => Vec::new(),
            _ => self.prompt[read..][..n].to_vec(),
        }
    }

    /// Puts the full pages that it has computed into the tree; how many of its promised ones that took.
    pub fn shared_pages(&mut self, pages: &mut Pages, engine: &Engine) -> usize {
        if engine.config().past_trained.ntk_alpha(self.prompt.len()) != 1.0 {
            return 0;
        }
        let text = match &self.decoding {
            Some(decoding) => decoding.text(),
            None => &self.prompt,
        };
        let full = &text[..self.sequence.len().min(text.len())];
        let mut taken = 0;
        for (index, tokens) in full
            .as_chunks::<PAGE>()
            .0
            .iter()
            .enumerate()
            .skip(self.path.len())
        {
            let depth = self.path.len();
            let sequence = &self.sequence;
            taken += usize::from(pages.extend(&mut self.path, tokens, || sequence.page(index)));
            if self.path.len() == depth {
                break;
            }
        }
        taken
    }

    /// Tells what was gathered over the prompt of a request that has no answer.
    pub fn finish_without_answer(&mut self) {
        self.tell_prompt();
        if self.decoding.is_none() {
            let squares: f64 = self.sum.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = 1.0 / squares.sqrt().max(1e-12);
            let mean = self.sum.iter().map(|x| (f64::from(*x) * scale) as f32);
            let _ = self.events.send(Event::Embedding(mean.collect()));
        }
        self.finish = Some(Finish::Done(End::Length));
    }

    pub fn tell_prompt(&mut self) {
        if self.prompt_logprobs.is_some() && self.answer().is_empty() {
            let logprobs = std::mem::take(&mut self.logprobs);
            let _ = self.events.send(Event::Prompt(logprobs));
        }
    }

    /// Chooses and tells what follows from the logits `rows` `[n, vocab_size]` of the last tokens that went in; how many
    /// tokens that is.
    pub fn choose(&mut self, rows: &[f32], model: &Model) -> usize {
        self.tell_prompt();
        let Some(decoding) = &mut self.decoding else {
            return 0;
        };
        // the tokens of `rows` stay as far as choices follow them
        let before = self.sequence.len() - rows.len() / model.engine.config().vocab_size;
        let tokens = match decoding.accept(model, rows) {
            Ok(tokens) => tokens,
            Err(error) => {
                self.finish = Some(Finish::Failed(error.to_string()));
                return 0;
            }
        };
        self.sequence.truncate(before + tokens.len());
        let chosen = tokens.len();
        for token in tokens {
            let _ = self.events.send(Event::Token(token.logprob));
        }
        if let Some(end) = decoding.end() {
            self.finish = Some(Finish::Done(end));
        }
        chosen
    }
}
