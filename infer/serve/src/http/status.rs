//! What is asked about the server itself: the page, health, models, figures.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use serde_json::{Value, json};

use super::App;
use super::error::{ApiError, json_response};
use crate::scheduler::{BUCKETS, Histogram};

/// The page at `/`: one file, which loads nothing else.
const PAGE: &str = include_str!("page.html");

pub(super) async fn page() -> Response {
    let mut response = Response::new(Body::from(PAGE));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether requests are taken, and what the page shows.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let open = app.scheduler.is_open();
    let status = match open {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "status": if open { "ok" } else { "ending" },
        "model": app.name,
        "context": app.settings.limits.context,
        "chat": app.template.is_ok(),
        "key": app.settings.api_key.is_some(),
        "resident_bytes": retort_files::memory::resident_bytes(),
    });
    json_response(status, &body)
}

fn model_json(app: &App) -> Value {
    json!({
        "id": app.name,
        "object": "model",
        "created": app.created,
        "owned_by": "retort",
        "max_model_len": app.settings.limits.context,
    })
}

pub(super) async fn models(State(app): State<Arc<App>>) -> Response {
    let body = json!({"object": "list", "data": [model_json(&app)]});
    json_response(StatusCode::OK, &body)
}

pub(super) async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    match name == app.name {
        true => Ok(json_response(StatusCode::OK, &model_json(&app))),
        false => {
            let message = format!("the model {name:?} does not exist; this is {:?}", app.name);
            let error = ApiError::new(StatusCode::NOT_FOUND, message);
            Err(error.with_code("model_not_found"))
        }
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this address")
}

pub(super) async fn wrong_method() -> ApiError {
    let message = "this address takes another method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Figures in Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let m = app.scheduler.metrics();
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = write!(
            text,
            "# HELP retort_{name} {help}\n# TYPE retort_{name} {kind}\nretort_{name} {value}\n"
        );
    };
    let counters = [
        ("requests_accepted_total", "Requests taken", &m.accepted),
        (
            "requests_refused_total",
            "Requests refused because the queue was full",
            &m.refused,
        ),
        ("requests_finished_total", "Requests done", &m.finished),
        (
            "requests_cancelled_total",
            "Requests whose client went away",
            &m.cancelled,
        ),
        (
            "requests_failed_total",
            "Requests that ended in an error",
            &m.failed,
        ),
        ("prompt_tokens_total", "Tokens of prompts", &m.prompt_tokens),
        (
            "prompt_tokens_reused_total",
            "Tokens of prompts computed before",
            &m.reused_tokens,
        ),
        ("answer_tokens_total", "Tokens of answers", &m.answer_tokens),
        ("passes_total", "Passes of the engine", &m.passes),
    ];
    for (name, help, count) in counters {
        one(name, "counter", help, count.get());
    }
    let gauges = [
        ("requests_waiting", "Requests waiting", &m.waiting),
        ("requests_running", "Requests being worked on", &m.running),
        (
            "pages",
            "Pages of keys and values that there may be",
            &m.pages,
        ),
        ("pages_kept", "Pages kept for reuse", &m.kept_pages),
        (
            "pages_reserved",
            "Pages reserved by running requests",
            &m.reserved_pages,
        ),
    ];
    for (name, help, count) in gauges {
        one(name, "gauge", help, count.get());
    }
    if let Some(bytes) = retort_files::memory::resident_bytes() {
        one(
            "resident_bytes",
            "gauge",
            "Memory of the process, the mapped model included",
            bytes,
        );
    }
    histogram(
        &mut text,
        "first_token_seconds",
        "Time to the first token",
        &m.first_token,
    );
    histogram(
        &mut text,
        "next_token_seconds",
        "Time from token to token",
        &m.next_token,
    );
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn histogram(text: &mut String, name: &str, help: &str, times: &Histogram) {
    let _ = write!(
        text,
        "# HELP retort_{name} {help}\n# TYPE retort_{name} histogram\n"
    );
    for (end, count) in BUCKETS.iter().zip(times.counts()) {
        let _ = writeln!(text, "retort_{name}_bucket{{le=\"{end}\"}} {count}");
    }
    let (all, seconds) = (times.all(), times.seconds());
    let _ = write!(
        text,
        "retort_{name}_bucket{{le=\"+Inf\"}} {all}\nretort_{name}_sum {seconds}\nretort_{name}_count {all}\n"
    );
}
