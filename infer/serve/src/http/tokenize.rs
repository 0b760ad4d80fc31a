//! The tokenizer over HTTP, as vLLM has it, for clients that have none: `/tokenize`, `/detokenize`,
//! `/tokenizer_info`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::body::{JsonBody, run_blocking};
use super::error::{ApiError, Result};

#[derive(Deserialize)]
struct TokenizeRequest {
    prompt: String,
    /// vLLM adds them unless told otherwise.
    add_special_tokens: Option<bool>,
}

#[derive(Deserialize)]
struct DetokenizeRequest {
    tokens: TokenIds,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an array of token ids is needed")]
enum TokenIds {
    Ids(Vec<u32>),
}

/// Text to ids; control tokens written out are recognised.
pub(super) async fn tokenize(State(app): State<Arc<App>>, body: JsonBody) -> Result<Json<Value>> {
    run_blocking(move || {
        let request: TokenizeRequest = body.read()?;
        app.check_length("prompt", &request.prompt)?;
        let tokenizer = &app.model.tokenizer;
        let ids = match request.add_special_tokens {
            Some(false) => tokenizer.encode(&request.prompt, true),
            _ => tokenizer.encode_prompt(&request.prompt),
        };
        let ids = ids.map_err(|problem| ApiError::field("prompt", problem))?;
        Ok(Json(json!({
            "tokens": ids,
            "count": ids.len(),
            "max_model_len": app.context(),
        })))
    })
    .await
}

/// Ids to text.
pub(super) async fn detokenize(State(app): State<Arc<App>>, body: JsonBody) -> Result<Json<Value>> {
    let DetokenizeRequest {
        tokens: TokenIds::Ids(ids),
    } = body.read()?;
    Ok(Json(json!({"prompt": app.model.tokenizer.decode(&ids)})))
}

/// What a client needs to know of the tokenizer.
pub(super) async fn info(State(app): State<Arc<App>>) -> Json<Value> {
    let tokenizer = &app.model.tokenizer;
    let text = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id]));
    let template = app.model.engine.gguf().str("tokenizer.chat_template").ok();
    Json(json!({
        "tokenizer_class": "gguf",
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": app.context(),
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "add_bos_token": tokenizer.add_bos(),
        "chat_template": template,
    }))
}
