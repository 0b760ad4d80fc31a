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
//! single or half precision, to the bit (see [`Batch`](crate::engine::Batch)). Quantized keys and values are exact for
//! the last positions only, and which those are depends on the pieces in which a prompt was read.
//!
//! Who drops the receiver of a request's events cancels it.

mod active;
mod logprobs;
mod metrics;
mod pages;
mod run;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Error;
use crate::constrain::Constraint;
use crate::engine::PAGE;
use crate::generate::Model;
use crate::sampling::Sampling;

pub use logprobs::Logprob;
pub use metrics::{BUCKETS, Histogram, Metrics};

/// What the engine may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tokens of one request, prompt and answer.
    pub context: usize,
    /// Positions of keys and values in all.
    pub positions: usize,
    /// Requests that are worked on at a time.
    pub parallel: usize,
    /// Requests that wait.
    pub queue: usize,
    /// How long a request may take, waiting included.
    pub timeout: Duration,
}

/// What is asked of the engine.
#[derive(Debug)]
pub struct Request {
    /// The prompt's ids, at least one.
    pub prompt: Vec<u32>,
    /// What to do with it.
    pub task: Task,
}

/// What a request is for.
#[derive(Debug)]
pub enum Task {
    /// An answer, token by token.
    Generate(Box<Generate>),
    /// The mean of the last hidden states.
    Embed,
}

/// How an answer is made.
#[derive(Debug)]
pub struct Generate {
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// How many of the likeliest tokens to tell with each token; none tells no probabilities.
    pub logprobs: Option<usize>,
    /// Whether to tell them for the prompt's tokens too.
    pub prompt_logprobs: bool,
    /// Whether to go on past the model's end of text.
    pub ignore_end: bool,
}

/// What a request brings, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt's tokens from the second on, if asked for.
    Prompt(Vec<Logprob>),
    /// The next token of the answer. The one that ends it is told too.
    Token(Logprob),
    /// The mean of the last hidden states, `[hidden_size]`, of length 1.
    Embedding(Vec<f32>),
    /// There is no more.
    End(End, Usage),
    /// There is no more, because of this.
    Failed(String),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it, or the form it was held to is complete.
    Stop,
    /// It has the most tokens that it may have.
    Length,
}

/// What a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How many of them were computed for another request before.
    pub reused: usize,
    /// Tokens of the answer, without the one that ends it.
    pub answer: usize,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It can never be done: too long, or nothing to do.
    #[error("{0}")]
    Invalid(String),
    /// The queue is full.
    #[error("too many requests are waiting; try again later")]
    Busy,
    /// The engine has ended.
    #[error("the server is shutting down")]
    Closed,
}

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
    pub fn start(model: Arc<Model>, limits: Limits) -> crate::Result<Self> {
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
                run::run(&model, &limits_too, &ours);
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
                generate.sampling.validate().map_err(Refused::Invalid)?;
                generate.max_tokens
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
