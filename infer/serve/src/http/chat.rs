//! `POST /v1/chat/completions`: the next turn of a conversation.

use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::body::{JsonBody, in_range};
use super::chat_prompt::{self, ChatPrompt};
use super::completion_stream::Delta;
use super::endpoint::{Endpoint, finish_reason, logprob_json};
use super::error::{ApiError, Result};
use super::generation::Generation;
use super::generation_params::{GenerationParams, MAX_TOP_LOGPROBS};
use super::tool_calls::ToolCall;
use retort_engine::logprobs::Logprob;
use retort_engine::tokenizer::Tokenizer;

/// The fields of a request beside its conversation and its [`GenerationParams`].
#[derive(Deserialize)]
struct ChatRequest {
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<usize>,
    max_tokens: Option<usize>,
    /// OpenAI's newer name for `max_tokens`.
    max_completion_tokens: Option<usize>,
}

/// Answers as turns of a conversation.
pub(super) struct ChatCompletion {
    logprobs: bool,
}

impl Endpoint for ChatCompletion {
    const ID: &str = "chatcmpl";
    const OBJECT: &str = "chat.completion";
    const CHUNK: &str = "chat.completion.chunk";

    fn read(app: &App, body: &JsonBody) -> Result<(Self, Generation)> {
        let params = GenerationParams::read(body)?;
        let request: ChatRequest = body.read()?;
        let top = request.top_logprobs.unwrap_or(0);
        let top = in_range("top_logprobs", top, 0..=MAX_TOP_LOGPROBS)?;
        if top > 0 && !request.logprobs {
            let problem = "it needs logprobs to be true";
            return Err(ApiError::field("top_logprobs", problem));
        }
        let ChatPrompt { ids, tool_calls } = chat_prompt::read(app, body)?;
        let generation = Generation {
            max_tokens: request.max_tokens(app, ids.len())?,
            prompts: vec![ids],
            params,
            logprobs: request.logprobs.then_some(top),
            prompt_logprobs: false,
            tool_calls,
        };
        let logprobs = request.logprobs;
        Ok((Self { logprobs }, generation))
    }

    fn choice(&self, app: &App, index: usize, answer: &Delta) -> Value {
        let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
        if !answer.tool_calls.is_empty() {
            message["tool_calls"] = answer.tool_calls.iter().map(ToolCall::json).collect();
            if answer.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": self.logprobs(app, &answer.tokens),
            "finish_reason": finish_reason(answer),
        })
    }

    fn opening(&self, _: &App, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        Some(json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null}))
    }

    fn delta(&self, app: &App, index: usize, delta: &Delta) -> Value {
        let mut written = json!({});
        if !delta.text.is_empty() {
            written["content"] = delta.text.as_str().into();
        }
        if !delta.tool_calls.is_empty() {
            let numbered = delta.tool_calls.iter().enumerate().map(|(i, call)| {
                let mut call = call.json();
                call["index"] = (delta.tool_calls_before + i).into();
                call
            });
            written["tool_calls"] = numbered.collect();
        }
        json!({
            "index": index,
            "delta": written,
            "logprobs": self.logprobs(app, &delta.tokens),
            "finish_reason": finish_reason(delta),
        })
    }
}

impl ChatRequest {
    /// Tokens of an answer to a prompt of `prompt` tokens.
    fn max_tokens(&self, app: &App, prompt: usize) -> Result<usize> {
        let context = app.context();
        let too_long = |name, problem| {
            Err(ApiError::field(name, problem).with_code("context_length_exceeded"))
        };
        let room = context.saturating_sub(prompt);
        if room == 0 {
            let problem =
                format!("{prompt} tokens leave no room for an answer in a context of {context}");
            return too_long("messages", problem);
        }
        let (name, max_tokens) = match self.max_completion_tokens {
            Some(n) => ("max_completion_tokens", Some(n)),
            None => ("max_tokens", self.max_tokens),
        };
        match max_tokens {
            Some(n) if n > room => {
                let problem =
                    format!("{n} and {prompt} prompt tokens exceed the context of {context}");
                too_long(name, problem)
            }
            Some(n) => in_range(name, n, 1..=room),
            None => Ok(app.options.max_tokens.min(room)),
        }
    }
}

impl ChatCompletion {
    fn logprobs(&self, app: &App, tokens: &[Logprob]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let tokenizer = &app.model.tokenizer;
        let content = tokens.iter().map(|token| {
            let mut entry = token_json(tokenizer, token.id, token.logprob);
            let top = token.top.iter();
            entry["top_logprobs"] = top
                .map(|(id, logprob)| token_json(tokenizer, *id, *logprob))
                .collect();
            entry
        });
        json!({"content": content.collect::<Vec<_>>()})
    }
}

fn token_json(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Value {
    json!({
        "token": tokenizer.decode(&[id]),
        "logprob": logprob_json(logprob),
        "bytes": tokenizer.bytes(id),
    })
}
