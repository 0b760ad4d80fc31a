//! What completions and chat completions have in common.
//!
//! In: a request's body, which an [`Endpoint`] reads into a [`Generation`]. Out: the scheduler's
//! requests, and the JSON objects of the response.

use std::sync::Arc;

use rand::random;
use serde_json::{Value, json};

use super::app::App;
use super::body::JsonBody;
use super::completion_stream::Delta;
use super::error::Result;
use super::generation_params::GenerationParams;
use crate::scheduler::{Generate, Request, Task, Usage};
use retort_engine::decode::{DecodeOptions, End};

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

/// What is to be generated.
pub(super) struct Generation {
    pub prompts: Vec<Vec<u32>>,
    pub params: GenerationParams,
    /// Tokens of each answer.
    pub max_tokens: usize,
    /// How many of the likeliest tokens come with each token; `None` for no log-probabilities.
    pub logprobs: Option<usize>,
    /// Whether the log-probabilities of the prompts' tokens come too.
    pub prompt_logprobs: bool,
    /// Whether tool calls are taken out of the text.
    pub tool_calls: bool,
}

impl Generation {
    /// A request for each answer: the `n` answers to the first prompt, then those to the second.
    pub fn requests(&self, app: &App) -> Result<Vec<Request>> {
        let params = &self.params;
        let mut requests = Vec::new();
        for prompt in &self.prompts {
            for i in 0..params.n {
                let mut sampling = params.sampling.clone();
                sampling.seed = sampling.seed.wrapping_add(i as u64);
                let form = params.form.as_ref();
                let options = DecodeOptions {
                    max_tokens: self.max_tokens,
                    sampling,
                    constraint: form.map(|form| app.constraint(form)).transpose()?,
                    logprobs: self.logprobs,
                    ignore_end: params.ignore_end,
                };
                let generate = Generate {
                    options,
                    prompt_logprobs: self.prompt_logprobs,
                };
                requests.push(Request {
                    prompt: prompt.clone(),
                    task: Task::Generate(Box::new(generate)),
                });
            }
        }
        Ok(requests)
    }
}

/// Writes the objects of one response.
pub(super) struct ResponseWriter<E> {
    app: Arc<App>,
    endpoint: E,
    id: String,
    /// Answers to each prompt, whose tokens count once.
    n: usize,
    usage: Usage,
}

impl<E: Endpoint> ResponseWriter<E> {
    /// For answers in groups of `n` to the same prompt.
    pub fn new(app: Arc<App>, endpoint: E, n: usize) -> Self {
        Self {
            app,
            endpoint,
            id: format!("{}-{:016x}", E::ID, random::<u64>()),
            n,
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
        Some(self.object(E::CHUNK, vec![choice]))
    }

    /// A chunk of answer `index` in a stream.
    pub fn chunk(&self, index: usize, delta: &Delta) -> Value {
        let choice = self.endpoint.delta(&self.app, index, delta);
        self.object(E::CHUNK, vec![choice])
    }

    /// The last chunk of a stream with `include_usage`.
    pub fn usage(&self) -> Value {
        self.with_usage(self.object(E::CHUNK, Vec::new()))
    }

    fn with_usage(&self, mut object: Value) -> Value {
        let Usage {
            prompt,
            reused,
            answer,
        } = self.usage;
        object["usage"] = json!({
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": reused},
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
