//! A request that is worked on: how far it is, and what each pass brings it.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::prefix_cache::{Pages, Path};
use super::{End, Event, Generate, Logprob, Request, Task};
use retort_engine::decoder::{Engine, PAGE, Sequence};
use retort_engine::generate::Model;
use retort_engine::sampling::Sampler;

/// A request that is worked on.
pub(super) struct Active {
    pub request: Request,
    pub events: UnboundedSender<Event>,
    pub since: Instant,
    pub sequence: Sequence,
    /// Its pages in the tree, and pages promised beside them.
    pub path: Path,
    pub reserved: usize,
    /// Tokens of its prompt that another request computed.
    pub reused: usize,
    pub sampler: Option<Sampler>,
    /// The answer so far; its last token has not been taken in.
    pub answer: Vec<u32>,
    /// Tokens told, and when the last one was.
    pub told: usize,
    pub last_token: Instant,
    /// What is gathered over the prompt: its probabilities, or its states' sum.
    pub logprobs: Vec<Logprob>,
    pub sum: Vec<f32>,
    /// Why it is over.
    pub over: Option<Over>,
}

/// Why a request is over.
pub(super) enum Over {
    Done(End),
    Failed(String),
    Cancelled,
}

impl Active {
    /// Tokens of the prompt that have not been taken in.
    pub fn unread(&self) -> usize {
        self.request
            .prompt
            .len()
            .saturating_sub(self.sequence.len())
    }

    pub fn max_tokens(&self) -> usize {
        match &self.request.task {
            Task::Generate(generate) => generate.max_tokens,
            Task::Embed => 0,
        }
    }

    /// Full pages of the prompt.
    pub fn prompt_pages(&self) -> usize {
        self.request.prompt.len() / PAGE
    }

    /// The `n` tokens that come next.
    pub fn next_tokens(&self, n: usize) -> Vec<u32> {
        match (n, self.unread()) {
            (0, _) => Vec::new(),
            (_, 0) => self.answer.last().copied().into_iter().collect(),
            _ => self.request.prompt[self.sequence.len()..][..n].to_vec(),
        }
    }

    /// Puts the full pages that it has computed into the tree; how many of its promised ones that took.
    pub fn shared_pages(&mut self, pages: &mut Pages, engine: &Engine) -> usize {
        if engine
            .config()
            .past_trained
            .ntk_alpha(self.request.prompt.len())
            != 1.0
        {
            return 0;
        }
        let text: Vec<u32> = [&self.request.prompt[..], &self.answer].concat();
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
        if matches!(self.request.task, Task::Embed) {
            let squares: f64 = self.sum.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let scale = 1.0 / squares.sqrt().max(1e-12);
            let mean = self.sum.iter().map(|x| (f64::from(*x) * scale) as f32);
            let _ = self.events.send(Event::Embedding(mean.collect()));
        }
        self.over = Some(Over::Done(End::Length));
    }

    pub fn tell_prompt(&mut self) {
        if let Task::Generate(generate) = &self.request.task
            && generate.prompt_logprobs
            && self.answer.is_empty()
        {
            let logprobs = std::mem::take(&mut self.logprobs);
            let _ = self.events.send(Event::Prompt(logprobs));
        }
    }

    /// Chooses and tells the next token.
    pub fn choose(&mut self, logits: &[f32], model: &Model) {
        self.tell_prompt();
        let (Task::Generate(generate), Some(sampler)) = (&mut self.request.task, &mut self.sampler)
        else {
            return;
        };
        let Generate {
            constraint,
            logprobs,
            ignore_end,
            max_tokens,
            ..
        } = &mut **generate;
        let allowed = match constraint.as_mut().map(|constraint| constraint.allowed()) {
            Some(Err(problem)) => {
                self.over = Some(Over::Failed(format!("the answer's form: {problem}")));
                return;
            }
            Some(Ok(allowed)) => Some(allowed),
            None => None,
        };
        let id = match &allowed {
            Some(allowed) => sampler.sample_where(logits, Some(&|id| allowed.has(id))),
            None => sampler.sample(logits),
        };
        let ends = model.tokenizer.is_end_of_generation(id);
        if let Some(constraint) = constraint.as_mut().filter(|_| !ends)
            && let Err(problem) = constraint.take(id)
        {
            self.over = Some(Over::Failed(format!("the answer's form: {problem}")));
            return;
        }
        if allowed.as_ref().is_some_and(|allowed| !allowed.has(id)) {
            let problem = "no token of the vocabulary continues the answer's form";
            self.over = Some(Over::Failed(problem.into()));
            return;
        }
        let told = match *logprobs {
            Some(n) => Logprob::of(id, logits, n),
            None => Logprob::unknown(id),
        };
        let complete = constraint
            .as_ref()
            .is_some_and(|constraint| constraint.is_complete());
        let _ = self.events.send(Event::Token(told));
        if ends && !(*ignore_end && constraint.is_none()) {
            self.over = Some(Over::Done(End::Stop));
            return;
        }
        self.answer.push(id);
        if complete {
            self.over = Some(Over::Done(End::Stop));
        } else if self.answer.len() >= *max_tokens {
            self.over = Some(Over::Done(End::Length));
        }
    }
}
