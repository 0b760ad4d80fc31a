//! `POST /v1/embeddings`: the mean of a text's last hidden states, of length 1.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::body::{JsonBody, Prompts, in_range, run_blocking};
use super::error::{ApiError, Result};
use crate::scheduler::{Event, Request, Task};

/// Texts in one request.
const MAX_INPUTS: usize = 256;

#[derive(Deserialize)]
struct EmbeddingRequest {
    input: Prompts,
    #[serde(default)]
    encoding_format: EncodingFormat,
    dimensions: Option<usize>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

pub(super) async fn create(State(app): State<Arc<App>>, body: JsonBody) -> Result<Json<Value>> {
    let shared = Arc::clone(&app);
    let (inputs, format) = run_blocking(move || {
        let request: EmbeddingRequest = body.read()?;
        let width = shared.model.engine.config().hidden_size;
        in_range(
            "dimensions",
            request.dimensions.unwrap_or(width),
            width..=width,
        )?;
        let inputs = request.input.encode(&shared, "input", MAX_INPUTS)?;
        Ok((inputs, request.encoding_format))
    })
    .await?;
    let tokens: usize = inputs.iter().map(Vec::len).sum();
    let requests = inputs.into_iter().map(|prompt| Request {
        prompt,
        task: Task::Embed,
    });
    let events = app.scheduler.submit(requests.collect())?;
    let mut data = Vec::with_capacity(events.len());
    for (index, mut events) in events.into_iter().enumerate() {
        let embedding = match events.recv().await {
            Some(Event::Embedding(embedding)) => format.json(&embedding),
            Some(Event::Failed(problem)) => return Err(ApiError::internal(problem)),
            _ => return Err(ApiError::engine_ended()),
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": app.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

impl EncodingFormat {
    /// `numbers` as an array, or as the base64 of little-endian bytes, for which OpenAI's clients
    /// ask by default.
    fn json(self, numbers: &[f32]) -> Value {
        match self {
            Self::Float => numbers.into(),
            Self::Base64 => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_holds_little_endian_numbers() {
        // 0000803f 00000040
        let encoded = EncodingFormat::Base64.json(&[1.0, 2.0]);
        assert_eq!(encoded, "AACAPwAAAEA=");
        assert_eq!(EncodingFormat::Float.json(&[1.0]), json!([1.0]));
    }
}
