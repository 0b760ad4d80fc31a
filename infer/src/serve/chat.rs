//! `POST /v1/chat/completions`: the next turn of a conversation.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answers::{self, Delivery, Piece, Shape, reason, usage_json};
use super::completions::number;
use super::error::ApiError;
use super::fields::{self, Fields};
use super::request::{MAX_TOP, Options};
use super::{App, aside, body};
use crate::scheduler::Request as Job;
use crate::scheduler::{Generate, Logprob, Task, Usage};
use crate::template::Input;
use crate::tokenizer::Tokenizer;

type Result<T> = std::result::Result<T, ApiError>;

/// Turns of a conversation.
const MAX_MESSAGES: usize = 4096;
/// Tools that a model may call.
const MAX_TOOLS: usize = 128;

pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let ours = Arc::clone(&app);
    let (shape, delivery, jobs) = aside(move || prepare(&ours, &body)).await?;
    let events = app.scheduler.submit(jobs).map_err(ApiError::from)?;
    answers::deliver(app, shape, delivery, events).await
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
    let prompt = prompt(app, &fields)?;
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
            max_tokens,
            sampling,
            constraint: app.constraint(&options)?,
            logprobs,
            prompt_logprobs: false,
            ignore_end: options.ignore_end,
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
        prompts: vec![prompt.len(); jobs.len()],
        n: jobs.len(),
    };
    let shape = Chat {
        id: app.id("chatcmpl"),
        logprobs: logprobs.is_some(),
    };
    Ok((shape, delivery, jobs))
}

/// The ids of the conversation, up to where the answer begins.
fn prompt(app: &App, fields: &Fields) -> Result<Vec<u32>> {
    let template = app.template.as_ref().map_err(ApiError::bad)?;
    let values = fields.required("messages")?;
    let Value::Array(values) = values else {
        return Err(fields::wrong("messages", "an array", values));
    };
    if values.is_empty() || values.len() > MAX_MESSAGES {
        let problem = format!("between 1 and {MAX_MESSAGES} messages are needed");
        return Err(ApiError::field("messages", problem));
    }
    let tokenizer = &app.model.tokenizer;
    let guard = tokenizer.guard();
    let mut messages = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let message = message(value, &format!("messages[{index}]"))?;
        messages.push(guard.value(&Value::Object(message)));
    }
    let tools = tools(fields)?.map(|tools| guard.value(&tools));
    let more = fields
        .object("chat_template_kwargs")?
        .cloned()
        .map(Value::Object);
    let more = more.map(|more| guard.value(&more));
    let text = template.render(&Input {
        messages: &messages,
        tools: tools.as_ref(),
        add_generation_prompt: true,
        more: more.as_ref().and_then(Value::as_object),
    });
    let text = text.map_err(|error| ApiError::field("messages", error))?;
    app.check_length("messages", &text)?;
    let ids = tokenizer.encode_guarded(&text);
    let ids = ids.map_err(|problem| ApiError::field("messages", problem))?;
    match ids.is_empty() {
        true => Err(ApiError::field(
            "messages",
            "the model's chat template wrote nothing",
        )),
        false => Ok(ids),
    }
}

/// A message as templates take it: content as one text, arguments of calls as objects.
fn message(value: &Value, name: &str) -> Result<Map<String, Value>> {
    let Value::Object(given) = value else {
        return Err(fields::wrong(name, "an object", value));
    };
    let mut message = given.clone();
    let role = given.get("role").unwrap_or(&Value::Null);
    let role = match fields::text(role, &format!("{name}.role"))? {
        // OpenAI's newer word
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        role => {
            let problem = format!("{role:?} is none of system, user, assistant, tool");
            return Err(ApiError::field(&format!("{name}.role"), problem));
        }
    };
    message.insert("role".into(), role.into());
    let calls = given.get("tool_calls").filter(|calls| !calls.is_null());
    let field = format!("{name}.content");
    let content = match given.get("content").unwrap_or(&Value::Null) {
        Value::Null if calls.is_some() => String::new(),
        Value::Array(parts) => {
            let part = |part: &Value| {
                let part = Fields::of(part, &field)?;
                match part.text("type")? {
                    Some("text") => Ok(part.text("text")?.unwrap_or("").to_owned()),
                    other => {
                        let kind = other.unwrap_or("nothing");
                        let problem = format!("parts of type text are taken, not {kind}");
                        Err(ApiError::field(&field, problem))
                    }
                }
            };
            parts.iter().map(part).collect::<Result<Vec<_>>>()?.concat()
        }
        content => fields::text(content, &field)?.to_owned(),
    };
    message.insert("content".into(), content.into());
    if let Some(calls) = calls {
        let field = format!("{name}.tool_calls");
        let Value::Array(calls) = calls else {
            return Err(fields::wrong(&field, "an array", calls));
        };
        let mut calls = calls.clone();
        for call in &mut calls {
            let arguments = call.pointer_mut("/function/arguments");
            if let Some(arguments) = arguments
                && let Some(object) = arguments
                    .as_str()
                    .and_then(|text| serde_json::from_str(text).ok())
            {
                *arguments = object;
            }
        }
        message.insert("tool_calls".into(), calls.into());
    }
    Ok(message)
}

/// The tools that the model is told of. Which one it calls is its own choice.
fn tools(fields: &Fields) -> Result<Option<Value>> {
    let tools = fields.array("tools")?.filter(|tools| !tools.is_empty());
    if tools.is_some_and(|tools| tools.len() > MAX_TOOLS) {
        return Err(ApiError::field("tools", format!("at most {MAX_TOOLS}")));
    }
    if let Some(other) = tools.into_iter().flatten().find(|tool| !tool.is_object()) {
        return Err(fields::wrong("tools", "an array of objects", other));
    }
    match fields.get("tool_choice") {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(_) => {
            return Err(ApiError::field(
                "tool_choice",
                "auto and none are supported",
            ));
        }
    }
    Ok(tools.map(|tools| Value::from(tools.to_vec())))
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
            json!({
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": null},
                "logprobs": self.logprobs(app, &answer.tokens),
                "finish_reason": reason(answer.end),
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
        let delta = match piece.text.is_empty() {
            true => json!({}),
            false => json!({"content": piece.text}),
        };
        let choice = json!({
            "index": index,
            "delta": delta,
            "logprobs": self.logprobs(app, &piece.tokens),
            "finish_reason": reason(piece.end),
        });
        self.chunk(app, vec![choice], None)
    }

    fn usage(&self, app: &App, usage: Usage) -> Value {
        self.chunk(app, Vec::new(), Some(usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_what_templates_take() {
        let take = |value: Value| message(&value, "m").map(Value::Object);
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let taken = take(json!({"role": "developer", "content": parts})).unwrap();
        assert_eq!(taken, json!({"role": "system", "content": "ab"}));
        let call = json!({"function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let taken = take(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        assert_eq!(
            taken.unwrap()["tool_calls"][0]["function"]["arguments"],
            json!({"x": 1})
        );
        for (bad, param) in [
            (json!({"content": "x"}), "m.role"),
            (json!({"role": "king", "content": "x"}), "m.role"),
            (json!({"role": "user"}), "m.content"),
            (
                json!({"role": "user", "content": [{"type": "image_url"}]}),
                "m.content",
            ),
            (json!("hello"), "m"),
        ] {
            assert_eq!(take(bad).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
