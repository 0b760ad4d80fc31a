//! The engine's thread: admits requests, makes passes, hands out what they bring.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::active::{Active, Over};
use super::pages::{Pages, Path};
use super::{Closed, Event, Limits, Logprob, Request, Shared, Task, Usage, Waiting};
use crate::engine::{Batch, PAGE, Sequence};
use crate::generate::Model;
use crate::sampling::Sampler;

/// Tokens of prompts in a pass that answers wait for, and in one that none waits for.
const BUSY: usize = 64;
const QUIET: usize = 256;
/// Tokens of prompts come in multiples of this, which the kernels take together.
const GRAIN: usize = 8;
/// Rows of logits computed together for the probabilities of prompts.
const LOGIT_ROWS: usize = 32;

/// Works until the scheduler is closed and nothing is left to do.
pub(super) fn run(model: &Model, limits: &Limits, shared: &Shared) {
    let mut worker = Worker {
        model,
        limits,
        shared,
        batch: Batch::new(&model.engine),
        pages: Pages::new(limits.positions / PAGE),
        active: Vec::new(),
        turn: 0,
    };
    shared.metrics.pages.set(limits.positions / PAGE);
    while worker.wait() {
        worker.admit();
        worker.pass();
        worker.retire();
    }
}

struct Worker<'w> {
    model: &'w Model,
    limits: &'w Limits,
    shared: &'w Shared,
    batch: Batch<'w>,
    pages: Pages,
    active: Vec<Active>,
    /// Counts passes; says whose prompt gets what cannot be shared equally.
    turn: usize,
}

impl Worker<'_> {
    /// Sleeps until there is something to do; false when there never will be.
    fn wait(&mut self) -> bool {
        let mut state = self.shared.state();
        loop {
            match state.closed {
                Closed::Now => {
                    for active in &mut self.active {
                        active.over = Some(Over::Failed(super::Refused::Closed.to_string()));
                    }
                    drop(state);
                    self.retire();
                    return false;
                }
                Closed::Draining if self.active.is_empty() && state.queue.is_empty() => {
                    return false;
                }
                _ => {}
            }
            if !self.active.is_empty() || !state.queue.is_empty() {
                return true;
            }
            let woken = self.shared.wake.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins with what waits, the longest waiting first, as far as there is room.
    fn admit(&mut self) {
        let mut state = self.shared.state();
        let mut queue = std::mem::take(&mut state.queue);
        let mut left = VecDeque::new();
        let mut full = false;
        for waiting in queue.drain(..) {
            if waiting.events.is_closed() {
                self.shared.metrics.cancelled.add(1);
            } else if waiting.since.elapsed() > self.limits.timeout {
                let _ = waiting.events.send(Event::Failed(late(self.limits)));
                self.shared.metrics.failed.add(1);
            } else if full || self.active.len() >= self.limits.parallel {
                left.push_back(waiting);
            } else if self.is_being_read(&waiting.request) {
                // it will find the pages there when they have been computed
                left.push_back(waiting);
            } else if let Err(waiting) = self.begin(waiting) {
                // others do not overtake it, or it might wait for ever
                full = true;
                left.push_back(*waiting);
            }
        }
        // the queue's lock is held, so nothing has come in between
        state.queue = left;
        self.shared.metrics.waiting.set(state.queue.len());
        drop(state);
        self.shared.metrics.running.set(self.active.len());
    }

    /// Whether a prompt that begins like this one, further than what is known, is just being read.
    fn is_being_read(&self, request: &Request) -> bool {
        if !self.shares(request) || needs_every_position(request) {
            return false;
        }
        let most = (request.prompt.len() - 1) / PAGE;
        let known = self.pages.find(&request.prompt, most).len();
        (self.active.iter()).any(|active| {
            let theirs = &active.request.prompt;
            let common = theirs
                .iter()
                .zip(&request.prompt)
                .take_while(|(a, b)| a == b);
            active.answer.is_empty()
                && self.shares(&active.request)
                && (common.count().min(theirs.len() - 1) / PAGE).min(most) > known
        })
    }

    /// Whether a request's pages are those of any other that begins alike.
    fn shares(&self, request: &Request) -> bool {
        let past_trained = self.model.engine.config().past_trained;
        past_trained.ntk_alpha(request.prompt.len()) == 1.0
    }

    /// Makes a waiting request active, unless its pages do not fit now.
    fn begin(&mut self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let request = &waiting.request;
        let prompt = &request.prompt;
        let answer = match &request.task {
            Task::Generate(generate) => generate.max_tokens,
            Task::Embed => 0,
        };
        let path = match self.shares(request) && !needs_every_position(request) {
            // the last token goes in again, for its logits
            true => self.pages.find(prompt, (prompt.len() - 1) / PAGE),
            false => Path::new(),
        };
        let reserved = (prompt.len() + answer).div_ceil(PAGE) - path.len();
        self.pages.hold(&path);
        if !self.pages.reserve(reserved) {
            self.pages.release(&path);
            return Err(Box::new(waiting));
        }
        let mut sequence = self.model.engine.sequence(prompt.len());
        let mut over = None;
        if let Err(error) = sequence.adopt(&self.pages.pages(&path)) {
            over = Some(Over::Failed(error.to_string()));
        }
        let sampler = match &request.task {
            Task::Generate(generate) => {
                let mut sampler = Sampler::new(generate.sampling.clone());
                sampler.prompt(prompt);
                Some(sampler)
            }
            Task::Embed => None,
        };
        let metrics = &self.shared.metrics;
        metrics.prompt_tokens.add(prompt.len());
        metrics.reused_tokens.add(sequence.len());
        self.active.push(Active {
            reused: sequence.len(),
            request: waiting.request,
            events: waiting.events,
            since: waiting.since,
            sequence,
            path,
            reserved,
            sampler,
            answer: Vec::new(),
            told: 0,
            last_token: Instant::now(),
            logprobs: Vec::new(),
            sum: Vec::new(),
            over,
        });
        Ok(())
    }

    /// How many tokens of each active request go through the next pass.
    fn shares_of_pass(&mut self) -> Vec<usize> {
        let answering = self.active.iter().any(|active| !active.answer.is_empty());
        let mut budget = if answering { BUSY } else { QUIET };
        let mut shares: Vec<usize> = vec![0; self.active.len()];
        let mut reading: Vec<usize> = Vec::new();
        for (i, active) in self.active.iter().enumerate() {
            match (&active.over, active.unread()) {
                (Some(_), _) => {}
                (None, 0) => shares[i] = 1,
                (None, _) => reading.push(i),
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if !reading.is_empty() {
            let first = self.turn % reading.len();
            reading.rotate_left(first);
        }
        // equal parts, and what the short ones leave goes to the others
        while budget >= GRAIN && !reading.is_empty() {
            let part = (budget / reading.len()).max(GRAIN).next_multiple_of(GRAIN);
            reading.retain(|&i| {
                let more = part.min(budget).min(self.active[i].unread() - shares[i]);
                shares[i] += more;
                budget -= more;
                shares[i] < self.active[i].unread()
            });
        }
        shares
    }

    /// One pass of the engine, and what it brings.
    fn pass(&mut self) {
        for active in self
            .active
            .iter_mut()
            .filter(|active| active.over.is_none())
        {
            if active.events.is_closed() {
                active.over = Some(Over::Cancelled);
            } else if active.since.elapsed() > self.limits.timeout {
                active.over = Some(Over::Failed(late(self.limits)));
            }
        }
        let shares = self.shares_of_pass();
        let mut pieces: Vec<Vec<u32>> = Vec::new();
        for (active, &n) in self.active.iter().zip(&shares) {
            pieces.push(active.next_tokens(n));
        }
        let mut work: Vec<(&mut Sequence, &[u32])> = (self.active.iter_mut().zip(&pieces))
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(active, tokens)| (&mut active.sequence, &tokens[..]))
            .collect();
        if work.is_empty() {
            return;
        }
        let passed = self.batch.forward(&mut work);
        self.shared.metrics.passes.add(1);
        if let Err(error) = passed {
            // nothing of the pass can be told apart
            for active in &mut self.active {
                active.over.get_or_insert(Over::Failed(error.to_string()));
            }
            return;
        }
        // the first row of each active request's piece
        let mut firsts = Vec::with_capacity(shares.len());
        let mut row = 0;
        for tokens in &pieces {
            firsts.push(row);
            row += tokens.len();
        }
        if let Err(error) = self
            .gather(&firsts, &pieces)
            .and_then(|()| self.choose(&firsts, &pieces))
        {
            for active in &mut self.active {
                active.over.get_or_insert(Over::Failed(error.to_string()));
            }
        }
        for (active, tokens) in self.active.iter_mut().zip(&pieces) {
            if !tokens.is_empty()
                && active.unread() == 0
                && active.path.len() < active.prompt_pages()
            {
                let share = active.shared_pages(&mut self.pages, &self.model.engine);
                active.reserved -= share;
            }
        }
    }

    /// What is asked of prompts at every position: probabilities, and the sum of states.
    fn gather(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> crate::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let mut states = None;
        for ((active, &first), tokens) in self.active.iter_mut().zip(firsts).zip(pieces) {
            if tokens.is_empty() || active.over.is_some() {
                continue;
            }
            match &active.request.task {
                Task::Embed => {
                    let width = self.model.engine.config().hidden_size;
                    let states = states.get_or_insert_with(|| self.batch.states());
                    active.sum.resize(width, 0.0);
                    for state in states[first * width..][..tokens.len() * width].chunks_exact(width)
                    {
                        for (sum, x) in active.sum.iter_mut().zip(state) {
                            *sum += x;
                        }
                    }
                }
                Task::Generate(generate)
                    if generate.prompt_logprobs && active.answer.is_empty() =>
                {
                    let n = generate.logprobs.unwrap_or(0);
                    // where the piece lies in the prompt
                    let start = active.sequence.len() - tokens.len();
                    for from in (0..tokens.len()).step_by(LOGIT_ROWS) {
                        let to = (from + LOGIT_ROWS).min(tokens.len());
                        let rows = self.batch.logits(first + from..first + to)?;
                        for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
                            if let Some(&id) = active.request.prompt.get(start + from + i + 1) {
                                active.logprobs.push(Logprob::of(id, logits, n));
                            }
                        }
                    }
                }
                Task::Generate(_) => {}
            }
        }
        Ok(())
    }

    /// The next token of every answer whose prompt has been read.
    fn choose(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> crate::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let ready = |active: &Active, tokens: &[u32]| {
            !tokens.is_empty() && active.over.is_none() && active.unread() == 0
        };
        let mut rows = Vec::new();
        for ((active, &first), tokens) in self.active.iter_mut().zip(firsts).zip(pieces) {
            if ready(active, tokens) {
                match active.sampler.is_some() && active.max_tokens() > 0 {
                    true => rows.push(first + tokens.len() - 1),
                    false => active.finish_without_answer(),
                }
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let logits = self.batch.logits(rows)?;
        let choosing = (self.active.iter_mut().zip(pieces))
            .filter(|(active, tokens)| ready(active, tokens))
            .map(|(active, _)| active);
        let mut choices: Vec<_> = choosing.zip(logits.chunks_exact(vocab_size)).collect();
        let model = self.model;
        // constraints and long vocabularies cost enough to be shared out
        model.engine.pool().rows(&mut choices, 1, 1, |_, choice| {
            let (active, logits) = &mut choice[0];
            active.choose(logits, model);
        });
        let metrics = &self.shared.metrics;
        for (active, _) in &mut choices {
            let now = Instant::now();
            match active.told {
                0 => metrics.first_token.observe(now - active.since),
                _ => metrics.next_token.observe(now - active.last_token),
            }
            active.told += 1;
            active.last_token = now;
            metrics.answer_tokens.add(1);
        }
        Ok(())
    }

    /// Takes leave of what is over; its pages stay for those that begin alike.
    fn retire(&mut self) {
        let metrics = &self.shared.metrics;
        let (pages, engine) = (&mut self.pages, &self.model.engine);
        self.active.retain_mut(|active| {
            let Some(over) = active.over.take() else {
                return true;
            };
            match over {
                Over::Done(end) => {
                    metrics.finished.add(1);
                    let usage = Usage {
                        prompt: active.request.prompt.len(),
                        reused: active.reused,
                        answer: active.answer.len(),
                    };
                    let _ = active.events.send(Event::End(end, usage));
                }
                Over::Failed(problem) => {
                    metrics.failed.add(1);
                    let _ = active.events.send(Event::Failed(problem));
                }
                Over::Cancelled => metrics.cancelled.add(1),
            }
            active.reserved -= active.shared_pages(pages, engine);
            pages.release(&active.path);
            pages.unreserve(active.reserved);
            false
        });
        metrics.running.set(self.active.len());
        let (kept, reserved) = self.pages.counts();
        metrics.kept_pages.set(kept);
        metrics.reserved_pages.set(reserved);
    }
}

/// What a request is told that ran out of time.
fn late(limits: &Limits) -> String {
    let seconds = limits.timeout.as_secs();
    format!("the request took longer than {seconds} seconds")
}

/// Whether the results at every position of the prompt are asked for, which are computed then.
fn needs_every_position(request: &Request) -> bool {
    match &request.task {
        Task::Generate(generate) => generate.prompt_logprobs,
        Task::Embed => true,
    }
}
