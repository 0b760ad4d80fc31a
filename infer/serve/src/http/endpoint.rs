//! The two kinds of completions, and the JSON objects of their responses.
//!
//! In: a request's body, which an [`Endpoint`] reads into a [`Generation`], and the deltas of the
//! answers. Out: the objects of the response, whole or in chunks.

use std::sync::Arc;

use rand::random;
use serde_json::{Value, json};

use super::app::App;
use super::body::JsonBody;
use super::completion_stream::Delta;
use super::error::Result;
use super::generation::Generation;
use crate::scheduler::Usage;
use retort_engine::decode::End;

/// One of the two kinds of completions: how its request is read and its choices are written.
pub(super) trait Endpoint: Sized + Send + Sync + 'static {
    /// How the ids of its responses begin.
    const ID: &str;
    /// The `object` of a whole response, and of a chunk of a stream.
    const OBJECT: &str;
    const CHUNK: &str;

    /// Reads and checks a request.
    fn read(app: &App, body: &JsonBody) -> Result<(Self, Generation)>;
    /// A choice of a whole response.
    fn choice(&self, app: &App, index: usize, answer: &Delta) -> Value;
    /// The choice that comes before the first delta in a stream, if any.
    fn opening(&self, app: &App, index: usize) -> Option<Value>;
    /// The choice of a chunk.
    fn delta(&self, app: &App, index: usize, delta: &Delta) -> Value;
}

/// Writes the objects of one response.
pub(super) struct ResponseWriter<E> {
    app: Arc<App>,
    endpoint: E,
    id: String,
    /// Answers to each prompt, whose tokens count once.
    n: usize,
    /// Whether a stream's last chunk has the usage, and the others say that they have none.
    include_usage: bool,
    usage: Usage,
}

impl<E: Endpoint> ResponseWriter<E> {
    /// For answers in groups of `n` to the same prompt; with `include_usage`, a stream has the usage at its end.
    pub fn new(app: Arc<App>, endpoint: E, n: usize, include_usage: bool) -> Self {
        Self {
            app,
            endpoint,
            id: format!("{}-{:016x}", E::ID, random::<u64>()),
            n,
            include_usage,
            usage: Usage::default(),
        }
    }

    fn object(&self, kind: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.app.created,
            "model": self.app.name,
            "choices": choices,
        })
    }

    /// Counts what answer `index` took, if it ends with `delta`.
    pub fn count(&mut self, index: usize, delta: &Delta) {
        if let Some((_, usage)) = delta.finish {
            self.usage.answer += usage.answer;
            if index.is_multiple_of(self.n) {
                self.usage.prompt += usage.prompt;
                self.usage.reused += usage.reused;
            }
        }
    }

    /// A whole response.
    pub fn whole(&self, answers: &[Delta]) -> Value {
        let choice = |(index, answer)| self.endpoint.choice(&self.app, index, answer);
        let choices = answers.iter().enumerate().map(choice).collect();
        self.with_usage(self.object(E::OBJECT, choices))
    }

    /// What comes before the first delta of answer `index` in a stream, if anything.
    pub fn opening(&self, index: usize) -> Option<Value> {
        let choice = self.endpoint.opening(&self.app, index)?;
        Some(self.chunk_of(choice))
    }

    /// A chunk of answer `index` in a stream.
    pub fn chunk(&self, index: usize, delta: &Delta) -> Value {
        self.chunk_of(self.endpoint.delta(&self.app, index, delta))
    }

    fn chunk_of(&self, choice: Value) -> Value {
        let mut chunk = self.object(E::CHUNK, vec![choice]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The last chunk of a stream, if it has the usage.
    pub fn usage(&self) -> Option<Value> {
        let last = || self.with_usage(self.object(E::CHUNK, Vec::new()));
        self.include_usage.then(last)
    }

    fn with_usage(&self, mut object: Value) -> Value {
        let usage = self.usage;
        object["usage"] = json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.answer,
            "total_tokens": usage.prompt + usage.answer,
            "prompt_tokens_details": {"cached_tokens": usage.reused},
        });
        object
    }
}

/// The API's word for why an answer ended.
pub(super) fn finish_reason(delta: &Delta) -> Value {
    match delta.finish {
        None => Value::Null,
        Some((End::Stop, _)) if delta.tool_calls_before + delta.tool_calls.len() > 0 => {
            "tool_calls".into()
        }
        Some((End::Stop, _)) => "stop".into(),
        Some((End::Length, _)) => "length".into(),
    }
}

/// A log-probability; JSON has no infinity.
pub(super) fn logprob_json(logprob: f32) -> Value {
    json!(f64::from(logprob.max(-9999.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_token_has_a_finite_logprob() {
        assert_eq!(logprob_json(f32::NEG_INFINITY), json!(-9999.0));
    }

    #[test]
    fn the_finish_reason_is_openais_word() {
        let delta = |finish: Option<End>, tool_calls_before| Delta {
            finish: finish.map(|end| (end, Usage::default())),
            tool_calls_before,
            ..Delta::default()
        };
        assert_eq!(finish_reason(&delta(None, 0)), Value::Null);
        assert_eq!(finish_reason(&delta(Some(End::Length), 1)), "length");
        assert_eq!(finish_reason(&delta(Some(End::Stop), 0)), "stop");
        assert_eq!(finish_reason(&delta(Some(End::Stop), 1)), "tool_calls");
    }
}
