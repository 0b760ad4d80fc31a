//! Many requests, one engine: continuous batching over shared pages of keys and values.
//!
//! ```text
//! submit ─► queue (bounded) ─► admitted, when its pages fit ─► forward passes ─► events
//!                                   ▲                           │
//!                                   └───── prefix cache ◄──────┘
//! ```
//!
//! One thread runs the engine. Each forward pass takes one token of every answer (decode) and a
//! chunk of the prompts (prefill), shared equally among them: a long prompt delays the others by
//! chunks, and a short one does not wait for it. A request reserves the pages of its whole length
//! before it begins, so that none is ever evicted half done. Its answer depends on its own tokens
//! and seed alone; with packed files, and keys and values in single or half precision, to the bit
//! (see [`Batch`](retort_engine::decoder::Batch)). Quantized keys and values are exact for the last
//! positions only, and which those are depends on the chunks in which a prompt was taken in.
//!
//! Dropping the receiver of a request's events cancels the request.

mod metrics;
mod prefix_cache;
mod request;
mod running;
mod step;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use retort_engine::Model;
use retort_engine::decoder::PAGE;
use retort_engine::speculate::Speculation;
use retort_format::Error;
use worker::Worker;

pub use metrics::{METRICS_CONTENT_TYPE, Metrics};
pub use request::{Event, Generate, Limits, Refused, Request, Task, Usage};

/// The engine's thread and its queue.
#[derive(Debug)]
pub struct Scheduler {
    /// Where requests wait; `None` once no more are taken.
    queue: Mutex<Option<UnboundedSender<Waiting>>>,
    /// The free places of the queue.
    places: Arc<Semaphore>,
    /// Set when everything is to end at once.
    stop: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    limits: Limits,
    vocab_size: usize,
    thread: Option<JoinHandle<()>>,
}

/// A request that has not begun.
#[derive(Debug)]
struct Waiting {
    request: Request,
    events: UnboundedSender<Event>,
    submitted: Instant,
    /// Its place in the queue, which is free again when this is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Scheduler {
    /// Starts the engine's thread.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the limits do not fit the model or the memory, or no thread can be
    /// started.
    pub fn start(model: Arc<Model>, limits: Limits) -> retort_format::Result<Self> {
        Self::speculating(model, limits, Speculation::Off)
    }

    /// The same, with speculative decoding while one request is worked on alone: with several, a
    /// pass is full of their tokens, and guesses would delay them.
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
        let (queue, receiver) = unbounded_channel();
        let (stop, metrics) = (Arc::<AtomicBool>::default(), Arc::<Metrics>::default());
        let mut scheduler = Self {
            queue: Mutex::new(Some(queue)),
            places: Arc::new(Semaphore::new(limits.queue.min(Semaphore::MAX_PERMITS))),
            stop: Arc::clone(&stop),
            metrics: Arc::clone(&metrics),
            limits: limits.clone(),
            vocab_size: model.engine.config().vocab_size,
            thread: None,
        };
        let work = move || {
            Worker::new(&model, &limits, &speculation, receiver, &metrics, &stop).run();
        };
        let thread = std::thread::Builder::new().name("engine".into());
        let thread = thread.spawn(work);
        let cannot = |error| Error::Argument(format!("cannot start the engine: {error}"));
        scheduler.thread = Some(thread.map_err(cannot)?);
        Ok(scheduler)
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
        let metrics = &self.metrics;
        let queue = self.queue();
        let Some(queue) = queue.as_ref().filter(|queue| !queue.is_closed()) else {
            return Err(Refused::Closed);
        };
        let count = requests.len();
        let places = Arc::clone(&self.places).try_acquire_many_owned(count as u32);
        let Ok(mut places) = places else {
            metrics.refused.inc_by(count as u64);
            return Err(Refused::Busy);
        };
        metrics.accepted.inc_by(count as u64);
        metrics.waiting.inc_by(count as i64);
        let submitted = Instant::now();
        let mut receivers = Vec::with_capacity(count);
        for request in requests {
            let (events, receiver) = unbounded_channel();
            receivers.push(receiver);
            let waiting = Waiting {
                request,
                events,
                submitted,
                _place: places.split(1),
            };
            queue.send(waiting).map_err(|_| Refused::Closed)?;
        }
        Ok(receivers)
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let invalid = |problem: String| Err(Refused::Invalid(problem));
        let (prompt, context) = (request.prompt.len(), self.limits.context);
        if prompt == 0 {
            return invalid("the prompt is empty".into());
        }
        let size = self.vocab_size;
        if let Some(id) = request.prompt.iter().find(|&&id| id as usize >= size) {
            return invalid(format!("token {id} is outside the vocabulary of {size}"));
        }
        let answer = match &request.task {
            Task::Embed => 0,
            Task::Generate(generate) => {
                let options = &generate.options;
                options.sampling.validate().map_err(Refused::Invalid)?;
                options.max_tokens
            }
        };
        if prompt.saturating_add(answer) > context {
            return invalid(format!(
                "{prompt} prompt tokens and {answer} more exceed the context of {context} tokens"
            ));
        }
        Ok(())
    }

    /// Figures for an operator.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether requests are taken.
    pub fn is_open(&self) -> bool {
        self.queue()
            .as_ref()
            .is_some_and(|queue| !queue.is_closed())
    }

    /// Takes no more requests; those taken are finished.
    pub fn close(&self) {
        *self.queue() = None;
    }

    fn queue(&self) -> MutexGuard<'_, Option<UnboundedSender<Waiting>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
