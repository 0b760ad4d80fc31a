//! `POST /v1/chat/completions`: the next turn of a conversation.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::chat_prompt::{self, Prompt};
use super::completion_stream::Piece;
use super::completions::number;
use super::error::ApiError;
use super::json_fields::Fields;
use super::request::{MAX_TOP, Options};
use super::sse::{self, Delivery, Shape, reason, usage_json};
use super::tool_calls::Call;
use super::{App, aside, body};
use crate::scheduler::{Generate, Request as Job, Task, Usage};
use retort_engine::decode::{DecodeOptions, End};
use retort_engine::logprobs::Logprob;
use retort_engine::tokenizer::Tokenizer;

type Result<T> = std::result::Result<T, ApiError>;

pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let ours = Arc::clone(&app);
    let (shape, delivery, jobs) = aside(move || prepare(&ours, &body)).await?;
    let events = app.scheduler.submit(jobs).map_err(ApiError::from)?;
    sse::deliver(app, shape, delivery, events).await
}

fn prepare(app: &App, body: &[u8]) -> Result<(Chat, Delivery, Vec<Job>)> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields)?;
    let options = Options::read(&fields)?;
    let logprobs = match (
        fields.flag("logprobs")?,
        fields.integer("top_logprobs", 0..=MAX_TOP)?,
    ) {
        (true, top) => Some(top.unwrap_or(0) as usize),
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            return Err(ApiError::field(
                "top_logprobs",
                "it needs logprobs to be true",
            ));
        }
    };
    let Prompt { ids: prompt, calls } = chat_prompt::prompt(app, &fields)?;
    let context = app.settings.limits.context;
    let room = context.saturating_sub(prompt.len());
    if room == 0 {
        let n = prompt.len();
        let problem = format!("{n} tokens leave no room for an answer in a context of {context}");
        return Err(ApiError::field("messages", problem).with_code("context_length_exceeded"));
    }
    let name = match fields.get("max_completion_tokens") {
        Some(_) => "max_completion_tokens",
        None => "max_tokens",
    };
    let max_tokens = match fields.integer(name, 1..=u64::from(u32::MAX))? {
        Some(n) if n as usize > room => {
            let prompt = prompt.len();
            let problem = format!("{n} and {prompt} prompt tokens exceed the context of {context}");
            return Err(ApiError::field(name, problem).with_code("context_length_exceeded"));
        }
        Some(n) => n as usize,
        None => app.settings.max_tokens.min(room),
    };
    let mut jobs = Vec::new();
    for i in 0..options.n {
        let mut sampling = options.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(i);
        let generate = Generate {
            options: DecodeOptions {
                max_tokens,
                sampling,
                constraint: app.constraint(&options)?,
                logprobs,
                ignore_end: options.ignore_end,
            },
            prompt_logprobs: false,
        };
        jobs.push(Job {
            prompt: prompt.clone(),
            task: Task::Generate(Box::new(generate)),
        });
    }
    let delivery = Delivery {
        stream: options.stream,
        include_usage: options.include_usage,
        stops: options.stops,
        logprobs: logprobs.is_some(),
        calls,
        prompts: vec![prompt.len(); jobs.len()],
        n: jobs.len(),
    };
    let shape = Chat {
        id: app.id("chatcmpl"),
        logprobs: logprobs.is_some(),
    };
    Ok((shape, delivery, jobs))
}

/// Answers as turns of a conversation.
struct Chat {
    id: String,
    logprobs: bool,
}

impl Chat {
    fn object(&self, app: &App, kind: &str, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": kind,
            "created": app.created,
            "model": app.name,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage_json(usage);
        }
        object
    }

    fn logprobs(&self, app: &App, tokens: &[Logprob]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let tokenizer = &app.model.tokenizer;
        let token = |token: &Logprob| {
            let mut told = entry(tokenizer, token.id, token.logprob);
            let top = token
                .top
                .iter()
                .map(|(id, logprob)| entry(tokenizer, *id, *logprob));
            told["top_logprobs"] = top.collect();
            told
        };
        json!({"content": tokens.iter().map(token).collect::<Vec<_>>()})
    }

    fn chunk(&self, app: &App, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        self.object(app, "chat.completion.chunk", choices, usage)
    }
}

/// Why an answer ended: to have tools called, if it calls some.
fn ended(piece: &Piece) -> Value {
    match piece.end {
        Some(End::Stop) if piece.calls_before + piece.calls.len() > 0 => "tool_calls".into(),
        end => reason(end),
    }
}

fn entry(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Value {
    json!({
        "token": tokenizer.decode(&[id]),
        "logprob": number(logprob),
        "bytes": tokenizer.bytes(id),
    })
}

impl Shape for Chat {
    fn whole(&self, app: &App, answers: &[Piece], usage: Usage) -> Value {
        let choice = |(index, answer): (usize, &Piece)| {
            let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
            if !answer.calls.is_empty() {
                message["tool_calls"] = answer.calls.iter().map(Call::json).collect();
                if answer.text.is_empty() {
                    message["content"] = Value::Null;
                }
            }
            json!({
                "index": index,
                "message": message,
                "logprobs": self.logprobs(app, &answer.tokens),
                "finish_reason": ended(answer),
            })
        };
        let choices = answers.iter().enumerate().map(choice).collect();
        self.object(app, "chat.completion", choices, Some(usage))
    }

    fn opening(&self, app: &App, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        Some(self.chunk(app, vec![choice], None))
    }

    fn piece(&self, app: &App, index: usize, piece: &Piece) -> Value {
        let mut delta = json!({});
        if !piece.text.is_empty() {
            delta["content"] = piece.text.as_str().into();
        }
        if !piece.calls.is_empty() {
            let numbered = piece.calls.iter().enumerate().map(|(i, call)| {
                let mut call = call.json();
                call["index"] = (piece.calls_before + i).into();
                call
            });
            delta["tool_calls"] = numbered.collect();
        }
        let choice = json!({
            "index": index,
            "delta": delta,
            "logprobs": self.logprobs(app, &piece.tokens),
            "finish_reason": ended(piece),
        });
        self.chunk(app, vec![choice], None)
    }

    fn usage(&self, app: &App, usage: Usage) -> Value {
        self.chunk(app, Vec::new(), Some(usage))
    }
}
