//! Requests to the scheduler, and the events that answer them.

use std::time::Duration;

use retort_engine::decode::{DecodeOptions, End};
use retort_engine::logprobs::Logprob;

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

/// A request to the scheduler.
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

/// How an answer is made, and what is sent with it.
#[derive(Debug)]
pub struct Generate {
    /// How tokens are chosen.
    pub options: DecodeOptions,
    /// Whether log-probabilities of the prompt's tokens are sent too.
    pub prompt_logprobs: bool,
}

/// What a request receives, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt's tokens from the second on, if asked for.
    Prompt(Vec<Logprob>),
    /// The next token of the answer. The one that ends it is sent too.
    Token(Logprob),
    /// The mean of the last hidden states, `[hidden_size]`, of length 1.
    Embedding(Vec<f32>),
    /// There is no more.
    End(End, Usage),
    /// There is no more, because of this.
    Failed(String),
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
