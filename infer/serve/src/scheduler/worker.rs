//! The engine's thread: admits requests, lets them have their passes, takes leave of those that are over.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::prefix_cache::{Pages, Path};
use super::running::{Active, Over};
use super::{Closed, Event, Limits, Request, Shared, Task, Usage, Waiting};
use retort_engine::decoder::{Batch, PAGE};
use retort_engine::generate::Model;
use retort_engine::sampling::Sampler;

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

pub(super) struct Worker<'w> {
    pub(super) model: &'w Model,
    pub(super) limits: &'w Limits,
    pub(super) shared: &'w Shared,
    pub(super) batch: Batch<'w>,
    pub(super) pages: Pages,
    pub(super) active: Vec<Active>,
    /// Counts passes; says whose prompt gets what cannot be shared equally.
    pub(super) turn: usize,
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
pub(super) fn late(limits: &Limits) -> String {
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
