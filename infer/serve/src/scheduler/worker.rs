//! The engine's thread: admits requests, runs forward passes, and removes requests that are done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::prefix_cache::{NodePath, PrefixCache};
use super::running::{Finish, Running};
use super::{Event, Limits, Metrics, Refused, Request, Task, Usage, Waiting};
use retort_engine::Model;
use retort_engine::decode::Decoding;
use retort_engine::decoder::{Batch, PAGE};
use retort_engine::speculate::Speculation;

pub(super) struct Worker<'w> {
    pub(super) model: &'w Model,
    pub(super) limits: &'w Limits,
    speculation: &'w Speculation,
    queue: UnboundedReceiver<Waiting>,
    pub(super) metrics: &'w Metrics,
    /// Set when everything is to end at once.
    stop: &'w AtomicBool,
    pub(super) batch: Batch<'w>,
    pub(super) cache: PrefixCache,
    waiting: VecDeque<Waiting>,
    pub(super) running: Vec<Running<'w>>,
    /// Counts forward passes; it decides whose prompt gets what cannot be shared equally.
    pub(super) turn: usize,
}

impl<'w> Worker<'w> {
    pub(super) fn new(
        model: &'w Model,
        limits: &'w Limits,
        speculation: &'w Speculation,
        queue: UnboundedReceiver<Waiting>,
        metrics: &'w Metrics,
        stop: &'w AtomicBool,
    ) -> Self {
        let pages = limits.positions / PAGE;
        metrics.pages.set(pages as i64);
        Self {
            model,
            limits,
            speculation,
            queue,
            metrics,
            stop,
            batch: Batch::new(&model.engine),
            cache: PrefixCache::new(pages),
            waiting: VecDeque::new(),
            running: Vec::new(),
            turn: 0,
        }
    }

    /// Works until the scheduler is closed and nothing is left to do.
    pub(super) fn run(mut self) {
        while self.wait() {
            self.admit();
            self.step();
            self.remove_finished();
        }
        let closed = || Event::Failed(Refused::Closed.to_string());
        for running in &self.running {
            let _ = running.events.send(closed());
        }
        for waiting in &self.waiting {
            let _ = waiting.events.send(closed());
        }
    }

    /// Sleeps until there is something to do. Returns false when there never will be.
    fn wait(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            match self.queue.blocking_recv() {
                Some(waiting) => self.waiting.push_back(waiting),
                None => return false,
            }
        }
        while let Ok(waiting) = self.queue.try_recv() {
            self.waiting.push_back(waiting);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// Starts waiting requests, the oldest first, while there is room.
    fn admit(&mut self) {
        let before = self.waiting.len();
        let mut full = false;
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.events.is_closed() {
                self.metrics.cancelled.inc();
            } else if waiting.submitted.elapsed() > self.limits.timeout {
                let late = Event::Failed(timeout_message(self.limits));
                let _ = waiting.events.send(late);
                self.metrics.failed.inc();
            } else if full || self.running.len() >= self.limits.parallel {
                self.waiting.push_back(waiting);
            } else if self.is_being_prefilled(&waiting.request) {
                // it will find the pages in the cache when they have been computed
                self.waiting.push_back(waiting);
            } else if let Err(waiting) = self.begin(waiting) {
                // others do not overtake it, or it might never start
                full = true;
                self.waiting.push_back(*waiting);
            }
        }
        let left = self.waiting.len();
        self.metrics.waiting.dec_by((before - left) as i64);
        self.metrics.running.set(self.running.len() as i64);
    }

    /// Whether a running prompt will soon add more of this one's prefix to the cache.
    fn is_being_prefilled(&self, request: &Request) -> bool {
        if !self.is_cacheable(&request.prompt) || needs_every_position(request) {
            return false;
        }
        let max = (request.prompt.len() - 1) / PAGE;
        let cached = self.cache.find(&request.prompt, max).len();
        (self.running.iter()).any(|running| {
            let theirs = &running.prompt;
            let both = theirs.iter().zip(&request.prompt);
            let common = both.take_while(|(a, b)| a == b);
            running.answer().is_empty()
                && self.is_cacheable(theirs)
                && (common.count().min(theirs.len() - 1) / PAGE).min(max) > cached
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
        let path = if self.is_cacheable(prompt) && !needs_every_position(request) {
            // the last token goes in again, for its logits
            self.cache.find(prompt, (prompt.len() - 1) / PAGE)
        } else {
            NodePath::new()
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
            ..
        } = waiting;
        let (mut decoding, mut prompt_logprobs) = (None, None);
        if let Task::Generate(generate) = task {
            let top = generate.options.logprobs.unwrap_or(0);
            prompt_logprobs = generate.prompt_logprobs.then_some(top);
            let drafter = self.speculation.drafter(self.model, prompt.len() + answer);
            match drafter.and_then(|drafter| Decoding::new(&prompt, generate.options, drafter)) {
                Ok(made) => decoding = Some(made),
                Err(error) => finish = Some(Finish::Failed(error.to_string())),
            }
        }
        let metrics = self.metrics;
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
        let metrics = self.metrics;
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
                Finish::Cancelled => {
                    metrics.cancelled.inc();
                }
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
