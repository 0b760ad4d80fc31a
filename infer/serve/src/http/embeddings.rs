//! `POST /v1/embeddings`: the mean of a text's last hidden states, of length 1.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::completions::ids;
use super::error::{ApiError, json_response};
use super::json_fields::{self, Fields};
use super::{App, aside, body};
use crate::scheduler::{Event, Request as Job, Task};

type Result<T> = std::result::Result<T, ApiError>;

/// Texts in one request.
const MAX_INPUTS: usize = 256;

pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let ours = Arc::clone(&app);
    let (jobs, base64) = aside(move || prepare(&ours, &body)).await?;
    let tokens: usize = jobs.iter().map(|job| job.prompt.len()).sum();
    let events = app.scheduler.submit(jobs).map_err(ApiError::from)?;
    let mut data = Vec::with_capacity(events.len());
    for (index, events) in events.into_iter().enumerate() {
        let embedding = embedding(events).await?;
        let embedding = match base64 {
            true => Value::from(encode(&embedding)),
            false => Value::from(embedding),
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let body = json!({
        "object": "list",
        "data": data,
        "model": app.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(json_response(StatusCode::OK, &body))
}

async fn embedding(mut events: UnboundedReceiver<Event>) -> Result<Vec<f32>> {
    let lost = |problem: &str| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, problem);
    match events.recv().await {
        Some(Event::Embedding(embedding)) => Ok(embedding),
        Some(Event::Failed(problem)) => Err(lost(&problem)),
        _ => Err(lost("the engine has ended")),
    }
}

/// The texts' requests, and whether numbers are wanted in base64.
fn prepare(app: &App, body: &[u8]) -> Result<(Vec<Job>, bool)> {
    let fields = Fields::parse(body)?;
    app.check_model(&fields)?;
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let problem = format!("{other:?} is neither float nor base64");
            return Err(ApiError::field("encoding_format", problem));
        }
    };
    let width = app.model.engine.config().hidden_size as u64;
    fields.integer("dimensions", width..=width)?;
    let name = "input";
    let encode = |text: &str| app.prompt(name, text);
    let value = fields.required(name)?;
    let inputs = match value {
        Value::String(text) => vec![encode(text)?],
        Value::Array(values) if values.iter().any(Value::is_number) => vec![ids(value, name)?],
        Value::Array(values) if values.len() > MAX_INPUTS => {
            return Err(ApiError::field(name, format!("at most {MAX_INPUTS} texts")));
        }
        Value::Array(values) => {
            let one = |value: &Value| match value {
                Value::String(text) => encode(text),
                other => ids(other, name),
            };
            values.iter().map(one).collect::<Result<Vec<_>>>()?
        }
        other => return Err(json_fields::wrong(name, "a string or an array", other)),
    };
    if inputs.is_empty() {
        return Err(ApiError::field(name, "it is empty"));
    }
    let job = |prompt| Job {
        prompt,
        task: Task::Embed,
    };
    Ok((inputs.into_iter().map(job).collect(), base64))
}

/// Little-endian numbers in base64, as OpenAI's clients ask for by default.
fn encode(numbers: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let index = (bits >> (18 - 6 * i) & 63) as usize;
            text.push(if i <= part.len() {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn base64_is_as_published() {
        // the bytes of 1.0 and of 2.0: 0000803f 00000040
        assert_eq!(encode(&[1.0]), "AACAPw==");
        assert_eq!(encode(&[1.0, 2.0]), "AACAPwAAAEA=");
        assert_eq!(encode(&[1.0, 2.0, 1.0]), "AACAPwAAAEAAAIA/");
        assert_eq!(encode(&[]), "");
    }
}
