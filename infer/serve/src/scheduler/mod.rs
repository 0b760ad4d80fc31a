//! Many requests, one engine: continuous batching over shared pages of keys and values.
//!
//! ```text
//! submit ─► queue (bounded) ─► admitted, when its pages fit ─► passes of the engine ─► events
//!                                   ▲                           │
//!                                   └── pages of prompts ◄──────┘  reused by requests that begin alike
//! ```
//!
//! One thread runs the engine. Each pass takes one token of every answer that is being written, and a piece of the
//! prompts that are being read, shared equally among them: a long prompt delays the others by pieces, and a short one
//! does not wait for it. A request reserves the pages of its whole length before it begins, so that none is ever
//! thrown out half done. Its answer depends on its own tokens and seed alone; with packed files, and keys and values in
//! single or half precision, to the bit (see [`Batch`](retort_engine::decoder::Batch)). Quantized keys and values are exact for
//! the last positions only, and which those are depends on the pieces in which a prompt was read.
//!
//! Who drops the receiver of a request's events cancels it.

mod metrics;
mod prefix_cache;
mod request;
mod running;
mod step;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use retort_engine::Model;
use retort_engine::decoder::PAGE;
use retort_engine::speculate::Speculation;
use retort_format::Error;

pub use metrics::{BUCKETS, Histogram, Metrics};
pub use request::{Event, Generate, Limits, Refused, Request, Task, Usage};

/// The engine's thread and its queue.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    limits: Limits,
    vocab_size: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Waiting>,
    closed: Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closed {
    #[default]
    Open,
    /// What has been taken is finished.
    Draining,
    /// Everything ends now.
    Now,
}

/// A request that has not begun.
#[derive(Debug)]
struct Waiting {
    request: Request,
    events: UnboundedSender<Event>,
    since: Instant,
}

impl Scheduler {
    /// Starts the engine's thread.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the limits do not fit the model or the memory, or no thread can be started.
    pub fn start(model: Arc<Model>, limits: Limits) -> retort_format::Result<Self> {
        Self::speculating(model, limits, Speculation::Off)
    }

    /// The same, with guesses that are checked ahead while one request is worked on alone: with several, a pass is full
    /// of their tokens, and guesses would delay them.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and of a draft model with another vocabulary.
    pub fn speculating(
        model: Arc<Model>,
        limits: Limits,
        speculation: Speculation,
    ) -> retort_format::Result<Self> {
        speculation.drafter(&model, 1)?;
        let trained = model.engine.config().context_length;
        if limits.context == 0 || limits.context > trained {
            return Err(Error::Argument(format!(
                "a context of {} is not between 1 and the model's {trained}",
                limits.context
            )));
        }
        if limits.parallel == 0 || limits.queue == 0 {
            let problem = "at least one request must be worked on, and one may wait";
            return Err(Error::Argument(problem.into()));
        }
        if limits.positions < limits.context.next_multiple_of(PAGE) {
            return Err(Error::Argument(format!(
                "{} positions in all do not hold one context of {}",
                limits.positions, limits.context
            )));
        }
        model.engine.check_memory(limits.positions)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            metrics: Metrics::default(),
        });
        let vocab_size = model.engine.config().vocab_size;
        let (ours, limits_too) = (Arc::clone(&shared), limits.clone());
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                // a panic must not leave requests waiting for a thread that is gone
                let _closing = CloseOnDrop(&ours);
                worker::run(&model, &limits_too, &speculation, &ours);
            })
            .map_err(|error| Error::Argument(format!("cannot start the engine: {error}")))?;
        Ok(Self {
            shared,
            limits,
            vocab_size,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes requests, all or none, and returns where their events arrive.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn submit(&self, requests: Vec<Request>) -> Result<Vec<UnboundedReceiver<Event>>, Refused> {
        for request in &requests {
            self.check(request)?;
        }
        if requests.len() > self.limits.queue {
            return Err(Refused::Invalid(format!(
                "{} prompts at once are more than {}",
                requests.len(),
                self.limits.queue
            )));
        }
        let metrics = &self.shared.metrics;
        let mut state = self.shared.state();
        if state.closed != Closed::Open {
            return Err(Refused::Closed);
        }
        if state.queue.len() + requests.len() > self.limits.queue {
            metrics.refused.add(requests.len());
            return Err(Refused::Busy);
        }
        let since = Instant::now();
        let mut receivers = Vec::with_capacity(requests.len());
        for request in requests {
            let (events, receiver) = unbounded_channel();
            receivers.push(receiver);
            metrics.accepted.add(1);
            state.queue.push_back(Waiting {
                request,
                events,
                since,
            });
        }
        metrics.waiting.set(state.queue.len());
        drop(state);
        self.shared.wake.notify_all();
        Ok(receivers)
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let invalid = |problem: String| Err(Refused::Invalid(problem));
        let (prompt, context) = (request.prompt.len(), self.limits.context);
        if prompt == 0 {
            return invalid("the prompt is empty".into());
        }
        if let Some(id) = request
            .prompt
            .iter()
            .find(|&&id| id as usize >= self.vocab_size)
        {
            let vocab_size = self.vocab_size;
            return invalid(format!(
                "token {id} is outside the vocabulary of {vocab_size}"
            ));
        }
        let answer = match &request.task {
            Task::Embed => 0,
            Task::Generate(generate) => {
                generate
                    .options
                    .sampling
                    .validate()
                    .map_err(Refused::Invalid)?;
                generate.options.max_tokens
            }
        };
        if prompt.saturating_add(answer) > context {
            return invalid(format!(
                "{prompt} prompt tokens and {answer} more exceed the context of {context} tokens"
            ));
        }
        Ok(())
    }

    /// What the engine may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Figures for an operator.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether requests are taken.
    pub fn is_open(&self) -> bool {
        self.shared.state().closed == Closed::Open
    }

    /// Takes no more requests; those taken are finished.
    pub fn close(&self) {
        let mut state = self.shared.state();
        if state.closed == Closed::Open {
            state.closed = Closed::Draining;
        }
        drop(state);
        self.shared.wake.notify_all();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.state().closed = Closed::Now;
        self.shared.wake.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what waits when the engine's thread ends, however that is.
struct CloseOnDrop<'s>(&'s Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = Closed::Now;
        for waiting in state.queue.drain(..) {
            let _ = waiting
                .events
                .send(Event::Failed(Refused::Closed.to_string()));
        }
    }
}
