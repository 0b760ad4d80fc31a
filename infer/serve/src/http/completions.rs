//! `POST /v1/completions`: what follows a prompt, or each of several.
//!
//! Prompts are texts or ids. `echo` with `logprobs` tells the probabilities of the prompt's own tokens, which is how
//! lm-evaluation-harness scores choices.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::completion_stream::Piece;
use super::error::ApiError;
use super::json_fields::{self, Fields};
use super::request::{MAX_TOP, Options};
use super::sse::{self, Delivery, Shape, reason, usage_json};
use super::{App, aside, body};
use crate::scheduler::{Generate, Request as Job, Task, Usage};
use retort_engine::decode::DecodeOptions;
use retort_engine::logprobs::Logprob;
use retort_engine::tokenizer::Tokenizer;

type Result<T> = std::result::Result<T, ApiError>;

/// Prompts in one request.
const MAX_PROMPTS: usize = 256;
/// Tokens of an answer that sets no limit, as OpenAI has it.
const MAX_TOKENS: u64 = 16;

pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let ours = Arc::clone(&app);
    let (shape, delivery, jobs) = aside(move || prepare(&ours, &body)).await?;
    let events = app.scheduler.submit(jobs).map_err(ApiError::from)?;
    sse::deliver(app, shape, delivery, events).await
}

fn prepare(app: &App, body: &[u8]) -> Result<(Completions, Delivery, Vec<Job>)> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields)?;
    let options = Options::read(&fields)?;
    let n = options.n;
    if fields
        .integer("best_of", 1..=u64::MAX)?
        .is_some_and(|best| best != n)
    {
        return Err(ApiError::field(
            "best_of",
            "only the same as n is supported",
        ));
    }
    if fields
        .text("suffix")?
        .is_some_and(|suffix| !suffix.is_empty())
    {
        return Err(ApiError::field("suffix", "this is not supported"));
    }
    let logprobs = fields.integer("logprobs", 0..=MAX_TOP)?.map(|n| n as usize);
    let echo = fields.flag("echo")?;
    let context = app.settings.limits.context as u64;
    let max_tokens = fields
        .integer("max_tokens", 0..=context)?
        .unwrap_or(MAX_TOKENS);
    let prompts = prompts(app, fields.required("prompt")?)?;
    if prompts.len() as u64 * n > MAX_PROMPTS as u64 {
        let problem = format!("at most {MAX_PROMPTS} answers in one request");
        return Err(ApiError::field("prompt", problem));
    }
    let mut jobs = Vec::new();
    for prompt in &prompts {
        for i in 0..n {
            let mut sampling = options.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(i);
            let generate = Generate {
                options: DecodeOptions {
                    // there is no room for more than the context holds
                    max_tokens: max_tokens as usize,
                    sampling,
                    constraint: app.constraint(&options)?,
                    logprobs,
                    ignore_end: options.ignore_end,
                },
                prompt_logprobs: echo && logprobs.is_some(),
            };
            jobs.push(Job {
                prompt: prompt.clone(),
                task: Task::Generate(Box::new(generate)),
            });
        }
    }
    let delivery = Delivery {
        stream: options.stream,
        include_usage: options.include_usage,
        stops: options.stops,
        logprobs: logprobs.is_some(),
        calls: false,
        prompts: jobs.iter().map(|job| job.prompt.len()).collect(),
        n: n as usize,
    };
    let echoed = match echo {
        true => jobs.iter().map(|job| job.prompt.clone()).collect(),
        false => Vec::new(),
    };
    let shape = Completions {
        id: app.id("cmpl"),
        echoed,
        logprobs: logprobs.is_some(),
    };
    Ok((shape, delivery, jobs))
}

/// A text, several, a list of ids, or several.
fn prompts(app: &App, value: &Value) -> Result<Vec<Vec<u32>>> {
    let name = "prompt";
    let encode = |text: &str| app.prompt(name, text);
    let prompts: Vec<Vec<u32>> = match value {
        Value::String(text) => vec![encode(text)?],
        Value::Array(values) if values.iter().any(Value::is_number) => vec![ids(value, name)?],
        Value::Array(values) if values.len() > MAX_PROMPTS => {
            return Err(ApiError::field(
                name,
                format!("at most {MAX_PROMPTS} prompts"),
            ));
        }
        Value::Array(values) => {
            let one = |value: &Value| match value {
                Value::String(text) => encode(text),
                other => ids(other, name),
            };
            values.iter().map(one).collect::<Result<_>>()?
        }
        other => return Err(json_fields::wrong(name, "a string or an array", other)),
    };
    match prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
        true => Err(ApiError::field(name, "it is empty")),
        false => Ok(prompts),
    }
}

/// A list of ids.
pub(super) fn ids(value: &Value, name: &str) -> Result<Vec<u32>> {
    let Value::Array(values) = value else {
        return Err(json_fields::wrong(name, "an array of token ids", value));
    };
    let id = |value| json_fields::integer(value, name, 0..=u64::from(u32::MAX)).map(|id| id as u32);
    values.iter().map(id).collect()
}

/// Answers as text completions.
struct Completions {
    id: String,
    /// Each answer's prompt, if it is to be repeated.
    echoed: Vec<Vec<u32>>,
    logprobs: bool,
}

impl Completions {
    fn object(&self, app: &App, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "text_completion",
            "created": app.created,
            "model": app.name,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage_json(usage);
        }
        object
    }

    fn choice(&self, app: &App, index: usize, piece: &Piece, first: bool) -> Value {
        let tokenizer = &app.model.tokenizer;
        let prompt = self.echoed.get(index).filter(|_| first);
        let mut text = prompt.map_or_else(String::new, |prompt| tokenizer.decode(prompt));
        let mut told = Told::default();
        if let Some(&id) = prompt.and_then(|prompt| prompt.first()) {
            told.first(tokenizer, id);
        }
        for token in piece.prompt.iter().chain(&piece.tokens) {
            told.push(tokenizer, token);
        }
        text += &piece.text;
        json!({
            "text": text,
            "index": index,
            "logprobs": self.logprobs.then(|| told.json()),
            "finish_reason": reason(piece.end),
        })
    }
}

impl Shape for Completions {
    fn whole(&self, app: &App, answers: &[Piece], usage: Usage) -> Value {
        let choice = |(index, answer)| self.choice(app, index, answer, true);
        let choices = answers.iter().enumerate().map(choice).collect();
        self.object(app, choices, Some(usage))
    }

    fn opening(&self, app: &App, index: usize) -> Option<Value> {
        if self.echoed.is_empty() || self.logprobs {
            return None;
        }
        let choice = self.choice(app, index, &Piece::default(), true);
        Some(self.object(app, vec![choice], None))
    }

    fn piece(&self, app: &App, index: usize, piece: &Piece) -> Value {
        // where probabilities are told, the prompt comes with them
        let choice = self.choice(app, index, piece, piece.first && self.logprobs);
        self.object(app, vec![choice], None)
    }

    fn usage(&self, app: &App, usage: Usage) -> Value {
        self.object(app, Vec::new(), Some(usage))
    }
}

/// Probabilities as completions tell them: four lists in step.
#[derive(Default)]
struct Told {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    offset: usize,
}

impl Told {
    /// A text's first token, which nothing comes before.
    fn first(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.add(tokenizer, id, Value::Null, Value::Null);
    }

    fn push(&mut self, tokenizer: &Tokenizer, token: &Logprob) {
        let mut top = Map::new();
        // the likeliest first, which keeps its name where parts of characters look alike
        for (id, logprob) in &token.top {
            top.entry(tokenizer.decode(&[*id]))
                .or_insert_with(|| number(*logprob));
        }
        self.add(
            tokenizer,
            token.id,
            number(token.logprob),
            Value::Object(top),
        );
    }

    fn add(&mut self, tokenizer: &Tokenizer, id: u32, logprob: Value, top: Value) {
        let text = tokenizer.decode(&[id]);
        self.offsets.push(self.offset.into());
        self.offset += text.chars().count();
        self.tokens.push(text.into());
        self.logprobs.push(logprob);
        self.top.push(top);
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}

/// A logarithm of a probability; JSON has no infinity.
pub(super) fn number(logprob: f32) -> Value {
    json!(f64::from(logprob.max(-9999.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use retort_engine::decode::End;

    #[test]
    fn a_list_of_ids_is_not_a_list_of_texts() {
        assert_eq!(ids(&json!([1, 2]), "x").unwrap(), [1, 2]);
        for bad in [
            json!([1, -2]),
            json!([1, "2"]),
            json!([1.5]),
            json!("1"),
            json!([1u64 << 40]),
        ] {
            assert_eq!(
                ids(&bad, "x").unwrap_err().param.as_deref(),
                Some("x"),
                "{bad}"
            );
        }
        assert_eq!(number(f32::NEG_INFINITY), json!(-9999.0));
        assert_eq!(reason(Some(End::Length)), json!("length"));
    }
}
