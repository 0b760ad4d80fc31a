//! The engine's thread: admits requests, lets them have their passes, takes leave of those that are over.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::prefix_cache::{Pages, Path};
use super::running::{Finish, Running};
use super::{Closed, Event, Generate, Limits, Request, Shared, Task, Usage, Waiting};
use retort_engine::Model;
use retort_engine::decode::Decoding;
use retort_engine::decoder::{Batch, PAGE};
use retort_engine::speculate::Speculation;

/// Works until the scheduler is closed and nothing is left to do.
pub(super) fn run(model: &Model, limits: &Limits, speculation: &Speculation, shared: &Shared) {
    let mut worker = Worker {
        model,
        limits,
        speculation,
        shared,
        batch: Batch::new(&model.engine),
        pages: Pages::new(limits.positions / PAGE),
        running: Vec::new(),
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
    speculation: &'w Speculation,
    pub(super) shared: &'w Shared,
    pub(super) batch: Batch<'w>,
    pub(super) pages: Pages,
    pub(super) running: Vec<Running<'w>>,
    /// Counts passes; says whose prompt gets what cannot be shared equally.
    pub(super) turn: usize,
}

impl<'w> Worker<'w> {
    /// Sleeps until there is something to do; false when there never will be.
    fn wait(&mut self) -> bool {
        let mut state = self.shared.state();
        loop {
            match state.closed {
                Closed::Now => {
                    for running in &mut self.running {
                        running.finish = Some(Finish::Failed(super::Refused::Closed.to_string()));
                    }
                    drop(state);
                    self.retire();
                    return false;
                }
                Closed::Draining if self.running.is_empty() && state.queue.is_empty() => {
                    return false;
                }
                _ => {}
            }
            if !self.running.is_empty() || !state.queue.is_empty() {
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
            } else if full || self.running.len() >= self.limits.parallel {
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
        self.shared.metrics.running.set(self.running.len());
    }

    /// Whether a prompt that begins like this one, further than what is known, is just being read.
    fn is_being_read(&self, request: &Request) -> bool {
        if !self.shares(&request.prompt) || needs_every_position(request) {
            return false;
        }
        let most = (request.prompt.len() - 1) / PAGE;
        let known = self.pages.find(&request.prompt, most).len();
        (self.running.iter()).any(|running| {
            let theirs = &running.prompt;
            let common = theirs
                .iter()
                .zip(&request.prompt)
                .take_while(|(a, b)| a == b);
            running.answer().is_empty()
                && self.shares(theirs)
                && (common.count().min(theirs.len() - 1) / PAGE).min(most) > known
        })
    }

    /// Whether the pages of a prompt are those of any other that begins alike.
    fn shares(&self, prompt: &[u32]) -> bool {
        let past_trained = self.model.engine.config().past_trained;
        past_trained.ntk_alpha(prompt.len()) == 1.0
    }

    /// Makes a waiting request active, unless its pages do not fit now.
    fn begin(&mut self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let request = &waiting.request;
        let prompt = &request.prompt;
        let answer = match &request.task {
            Task::Generate(generate) => generate.options.max_tokens,
            Task::Embed => 0,
        };
        let path = match self.shares(prompt) && !needs_every_position(request) {
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
        let mut finish = None;
        if let Err(error) = sequence.adopt(&self.pages.pages(&path)) {
            finish = Some(Finish::Failed(error.to_string()));
        }
        let Waiting {
            request: Request { prompt, task },
            events,
            since,
        } = waiting;
        let (mut decoding, mut prompt_logprobs) = (None, None);
        if let Task::Generate(generate) = task {
            let Generate {
                options,
                prompt_logprobs: tell,
            } = *generate;
            prompt_logprobs = tell.then_some(options.logprobs.unwrap_or(0));
            let made = (self.speculation.drafter(self.model, prompt.len() + answer))
                .and_then(|drafter| Decoding::new(&prompt, options, drafter));
            match made {
                Ok(made) => decoding = Some(made),
                Err(error) => finish = Some(Finish::Failed(error.to_string())),
            }
        }
        let metrics = &self.shared.metrics;
        metrics.prompt_tokens.add(prompt.len());
        metrics.reused_tokens.add(sequence.len());
        self.running.push(Running {
            reused: sequence.len(),
            prompt,
            events,
            since,
            sequence,
            path,
            reserved,
            decoding,
            emitted: 0,
            last_token: Instant::now(),
            prompt_logprobs,
            logprobs: Vec::new(),
            sum: Vec::new(),
            finish,
        });
        Ok(())
    }

    /// Takes leave of what is over; its pages stay for those that begin alike.
    fn retire(&mut self) {
        let metrics = &self.shared.metrics;
        let (pages, engine) = (&mut self.pages, &self.model.engine);
        self.running.retain_mut(|running| {
            let Some(finish) = running.finish.take() else {
                return true;
            };
            match finish {
                Finish::Done(end) => {
                    metrics.finished.add(1);
                    let usage = Usage {
                        prompt: running.prompt.len(),
                        reused: running.reused,
                        answer: running.answer().len(),
                    };
                    let _ = running.events.send(Event::End(end, usage));
                }
                Finish::Failed(problem) => {
                    metrics.failed.add(1);
                    let _ = running.events.send(Event::Failed(problem));
                }
                Finish::Cancelled => metrics.cancelled.add(1),
            }
            running.reserved -= running.shared_pages(pages, engine);
            pages.release(&running.path);
            pages.unreserve(running.reserved);
            false
        });
        metrics.running.set(self.running.len());
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
