//! What is asked about the server itself: the page, health, models, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use serde_json::{Value, json};

use super::app::App;
use super::error::{ApiError, Result};
use crate::scheduler::METRICS_CONTENT_TYPE;

/// The page at `/`: one file, which loads nothing else.
const PAGE: &str = include_str!("page.html");

const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

/// Whether requests are taken, and what the page shows.
pub(super) async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    let (status, word) = if app.scheduler.is_open() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ending")
    };
    let body = json!({
        "status": word,
        "model": app.name,
        "context": app.context(),
        "chat": app.template.is_ok(),
        "key": app.options.api_key.is_some(),
        "resident_bytes": retort_files::memory::resident_bytes(),
    });
    (status, Json(body))
}

fn model_json(app: &App) -> Value {
    json!({
        "id": app.name,
        "object": "model",
        "created": app.created,
        "owned_by": "retort",
        "max_model_len": app.context(),
    })
}

pub(super) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [model_json(&app)]}))
}

pub(super) async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    app.check_model(&name)?;
    Ok(Json(model_json(&app)))
}

pub(super) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this address")
}

pub(super) async fn wrong_method() -> ApiError {
    let message = "this address takes another method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// The scheduler's metrics, for Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = app.scheduler.metrics().encode();
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text)
}
