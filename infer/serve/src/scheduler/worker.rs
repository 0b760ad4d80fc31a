//! The engine's thread: admits requests, runs forward passes, and removes requests that are done.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::prefix_cache::{NodePath, PrefixCache};
use super::running::{Finish, Running};
use super::{Closed, Event, Generate, Limits, Request, Shared, Task, Usage, Waiting};
use retort_engine::decode::Decoding;
use retort_engine::decoder::{Batch, PAGE};
use retort_engine::generate::Model;
use retort_engine::speculate::Speculation;

/// Works until the scheduler is closed and nothing is left to do.
pub(super) fn run(model: &Model, limits: &Limits, speculation: &Speculation, shared: &Shared) {
    let mut worker = Worker {
        model,
        limits,
        speculation,
        shared,
        batch: Batch::new(&model.engine),
        cache: PrefixCache::new(limits.positions / PAGE),
        running: Vec::new(),
        turn: 0,
    };
    shared.metrics.pages.set((limits.positions / PAGE) as i64);
    while worker.wait() {
        worker.admit();
        worker.step();
        worker.remove_finished();
    }
}

pub(super) struct Worker<'w> {
    pub(super) model: &'w Model,
    pub(super) limits: &'w Limits,
    speculation: &'w Speculation,
    pub(super) shared: &'w Shared,
    pub(super) batch: Batch<'w>,
    pub(super) cache: PrefixCache,
    pub(super) running: Vec<Running<'w>>,
    /// Counts forward passes; it decides whose prompt gets what cannot be shared equally.
    pub(super) turn: usize,
}

impl<'w> Worker<'w> {
    /// Sleeps until there is something to do. Returns false when there never will be.
    fn wait(&mut self) -> bool {
        let mut state = self.shared.state();
        loop {
            match state.closed {
                Closed::Now => {
                    for running in &mut self.running {
                        running.finish = Some(Finish::Failed(super::Refused::Closed.to_string()));
                    }
                    drop(state);
                    self.remove_finished();
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

    /// Starts waiting requests, the oldest first, while there is room.
    fn admit(&mut self) {
        let mut state = self.shared.state();
        let mut queue = std::mem::take(&mut state.queue);
        let mut left = VecDeque::new();
        let mut full = false;
        for waiting in queue.drain(..) {
            if waiting.events.is_closed() {
                self.shared.metrics.cancelled.inc();
            } else if waiting.submitted.elapsed() > self.limits.timeout {
                let _ = waiting
                    .events
                    .send(Event::Failed(timeout_message(self.limits)));
                self.shared.metrics.failed.inc();
            } else if full || self.running.len() >= self.limits.parallel {
                left.push_back(waiting);
            } else if self.is_being_prefilled(&waiting.request) {
                // it will find the pages in the cache when they have been computed
                left.push_back(waiting);
            } else if let Err(waiting) = self.begin(waiting) {
                // others do not overtake it, or it might never start
                full = true;
                left.push_back(*waiting);
            }
        }
        // the queue's lock is held, so nothing has come in between
        state.queue = left;
        self.shared.metrics.waiting.set(state.queue.len() as i64);
        drop(state);
        self.shared.metrics.running.set(self.running.len() as i64);
    }

    /// Whether a running prompt will soon add more of this one's prefix to the cache.
    fn is_being_prefilled(&self, request: &Request) -> bool {
        if !self.is_cacheable(&request.prompt) || needs_every_position(request) {
            return false;
        }
        let most = (request.prompt.len() - 1) / PAGE;
        let known = self.cache.find(&request.prompt, most).len();
        (self.running.iter()).any(|running| {
            let theirs = &running.prompt;
            let common = theirs
                .iter()
                .zip(&request.prompt)
                .take_while(|(a, b)| a == b);
            running.answer().is_empty()
                && self.is_cacheable(theirs)
                && (common.count().min(theirs.len() - 1) / PAGE).min(most) > known
        })
    }

    /// Whether the pages of a prompt equal those of any other with the same prefix.
    fn is_cacheable(&self, prompt: &[u32]) -> bool {
        let past_trained = self.model.engine.config().past_trained;
        past_trained.ntk_alpha(prompt.len()) == 1.0
    }

    /// Starts a waiting request, unless its pages do not fit now.
    fn begin(&mut self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let request = &waiting.request;
        let prompt = &request.prompt;
        let answer = match &request.task {
            Task::Generate(generate) => generate.options.max_tokens,
            Task::Embed => 0,
        };
        let path = match self.is_cacheable(prompt) && !needs_every_position(request) {
            // the last token goes in again, for its logits
            true => self.cache.find(prompt, (prompt.len() - 1) / PAGE),
            false => NodePath::new(),
        };
        let reserved = (prompt.len() + answer).div_ceil(PAGE) - path.len();
        self.cache.acquire(&path);
        if !self.cache.reserve(reserved) {
            self.cache.release(&path);
            return Err(Box::new(waiting));
        }
        let mut sequence = self.model.engine.sequence(prompt.len());
        let mut finish = None;
        if let Err(error) = sequence.adopt(&self.cache.pages(&path)) {
            finish = Some(Finish::Failed(error.to_string()));
        }
        let Waiting {
            request: Request { prompt, task },
            events,
            submitted,
        } = waiting;
        let (mut decoding, mut prompt_logprobs) = (None, None);
        if let Task::Generate(generate) = task {
            let Generate {
                options,
                prompt_logprobs: wanted,
            } = *generate;
            prompt_logprobs = wanted.then_some(options.logprobs.unwrap_or(0));
            let made = (self.speculation.drafter(self.model, prompt.len() + answer))
                .and_then(|drafter| Decoding::new(&prompt, options, drafter));
            match made {
                Ok(made) => decoding = Some(made),
                Err(error) => finish = Some(Finish::Failed(error.to_string())),
            }
        }
        let metrics = &self.shared.metrics;
        metrics.prompt_tokens.inc_by(prompt.len() as u64);
        metrics.reused_tokens.inc_by(sequence.len() as u64);
        self.running.push(Running {
            reused: sequence.len(),
            prompt,
            events,
            submitted,
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

    /// Removes requests that are done; their pages stay in the prefix cache.
    fn remove_finished(&mut self) {
        let metrics = &self.shared.metrics;
        let (cache, engine) = (&mut self.cache, &self.model.engine);
        self.running.retain_mut(|running| {
            let Some(finish) = running.finish.take() else {
                return true;
            };
            match finish {
                Finish::Done(end) => {
                    metrics.finished.inc();
                    let usage = Usage {
                        prompt: running.prompt.len(),
                        reused: running.reused,
                        answer: running.answer().len(),
                    };
                    let _ = running.events.send(Event::End(end, usage));
                }
                Finish::Failed(problem) => {
                    metrics.failed.inc();
                    let _ = running.events.send(Event::Failed(problem));
                }
                Finish::Cancelled => drop(metrics.cancelled.inc()),
            }
            running.reserved -= running.cache_pages(cache, engine);
            cache.release(&running.path);
            cache.unreserve(running.reserved);
            false
        });
        metrics.running.set(self.running.len() as i64);
        let (kept, reserved) = self.cache.page_counts();
        metrics.kept_pages.set(kept as i64);
        metrics.reserved_pages.set(reserved as i64);
    }
}

/// The error of a request that ran out of time.
pub(super) fn timeout_message(limits: &Limits) -> String {
    let seconds = limits.timeout.as_secs();
    format!("the request took longer than {seconds} seconds")
}

/// Whether a request needs every position of its prompt computed, cached or not.
fn needs_every_position(request: &Request) -> bool {
    match &request.task {
        Task::Generate(generate) => generate.prompt_logprobs,
        Task::Embed => true,
    }
}
