//! What is asked of the engine, and what comes back.

use std::time::Duration;

use super::Logprob;
use retort_engine::constrain::Constraint;
use retort_engine::sampling::Sampling;

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
