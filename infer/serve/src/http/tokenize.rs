//! The tokenizer over HTTP, as vLLM has it, for clients that have none: `/tokenize`, `/detokenize`, `/tokenizer_info`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::completions::ids;
use super::error::{ApiError, json_response};
use super::json_fields::Fields;
use super::{App, aside, body};

type Result<T> = std::result::Result<T, ApiError>;

/// Text to ids; control tokens written out are recognised.
pub(super) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    aside(move || {
        let fields = Fields::parse(&body)?;
        app.check_model(&fields)?;
        let text = fields.text("prompt")?;
        let text = text.ok_or_else(|| ApiError::field("prompt", "this field is required"))?;
        app.check_length("prompt", text)?;
        let tokenizer = &app.model.tokenizer;
        // vLLM adds them unless told otherwise
        let ids = match fields.get("add_special_tokens") {
            Some(Value::Bool(false)) => tokenizer.encode(text, true),
            _ => tokenizer.encode_prompt(text),
        };
        let ids = ids.map_err(|problem| ApiError::field("prompt", problem))?;
        let body = json!({
            "tokens": ids,
            "count": ids.len(),
            "max_model_len": app.settings.limits.context,
        });
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

/// Ids to text.
pub(super) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let fields = Fields::parse(&body)?;
    app.check_model(&fields)?;
    let ids = ids(fields.required("tokens")?, "tokens")?;
    let text = app.model.tokenizer.decode(&ids);
    Ok(json_response(StatusCode::OK, &json!({"prompt": text})))
}

/// What a client needs to know of the tokenizer.
pub(super) async fn info(State(app): State<Arc<App>>) -> Response {
    let tokenizer = &app.model.tokenizer;
    let text = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id]));
    let template = app.model.engine.gguf().str("tokenizer.chat_template").ok();
    let body = json!({
        "tokenizer_class": "gguf",
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": app.settings.limits.context,
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "add_bos_token": tokenizer.add_bos(),
        "chat_template": template,
    });
    json_response(StatusCode::OK, &body)
}
