//! A model over HTTP, as OpenAI's API has it.
//!
//! ```text
//! connections (limits on number and patience) ─► auth (key, host, origin) ─► routes
//!    completions · chat ─► respond ─► scheduler ─► one JSON object, or server-sent events
//!    embeddings ─► scheduler
//!    tokenize · detokenize · tokenizer_info · models · health · metrics · the page at /
//! ```
//!
//! It is safe without configuration: it listens on the loopback interface only, needs an API key to
//! listen elsewhere, answers pages of no other origin, and bounds bodies, tokens, time, connections
//! and waiting requests.

mod app;
mod auth;
mod body;
mod chat;
mod chat_prompt;
mod completion_stream;
mod completions;
mod connections;
mod embeddings;
mod endpoint;
mod error;
mod generation;
mod generation_params;
mod respond;
mod sse;
mod status;
mod stop_sequences;
mod tokenize;
mod tool_calls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::scheduler::Limits;
use app::App;
use chat::ChatCompletion;
use completions::TextCompletion;
use retort_engine::Model;
use retort_engine::decoder::PAGE;
use retort_engine::speculate::Speculation;
use retort_files::memory::available_bytes;

pub use connections::Server;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// What clients must send as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// The origin whose pages may use it, `*` for all; none but its own without.
    pub cors: Option<String>,
    /// The model's name; the file's without its ending otherwise.
    pub name: Option<String>,
    /// What the engine may take.
    pub limits: Limits,
    /// Who guesses tokens ahead while one request is worked on alone.
    pub speculation: Speculation,
    /// Tokens of an answer that sets no limit, in a conversation.
    pub max_tokens: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Connections at a time.
    pub connections: usize,
    /// How long a client may take to send a request, or to take up what it is sent.
    pub patience: Duration,
    /// How long answers may go on when the server ends.
    pub grace: Duration,
}

/// Limits for `model`: a context of at most 8,192 tokens, and as many positions as four contexts
/// have or half of the free memory holds, whichever is less, but one context at least.
pub fn default_limits(model: &Model, context: Option<usize>, positions: Option<usize>) -> Limits {
    const CONTEXT: usize = 8192;
    let config = model.engine.config();
    let context = context.unwrap_or(config.context_length.min(CONTEXT));
    let page_bytes = config
        .kv_cache_bytes(PAGE, model.engine.settings().kv)
        .unwrap_or(usize::MAX);
    let free = available_bytes().map_or(u64::MAX, |free| free / 2);
    let fit = (free / page_bytes as u64).saturating_mul(PAGE as u64);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    let default = context.saturating_mul(4).min(fit).max(context);
    Limits {
        context,
        positions: positions.unwrap_or(default).next_multiple_of(PAGE),
        parallel: 32,
        queue: 256,
        timeout: Duration::from_secs(600),
    }
}

fn routes(app: Arc<App>) -> Router {
    let open = Router::new()
        .route("/", get(status::page))
        .route("/health", get(status::health));
    let guarded = Router::new()
        .route("/v1/completions", post(respond::complete::<TextCompletion>))
        .route(
            "/v1/chat/completions",
            post(respond::complete::<ChatCompletion>),
        )
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*name}", get(status::model))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/tokenizer_info", get(tokenize::info))
        .route("/metrics", get(status::metrics))
        .layer(from_fn_with_state(Arc::clone(&app), auth::check_key));
    let mut routes = open
        .merge(guarded)
        .fallback(status::not_found)
        .method_not_allowed_fallback(status::wrong_method);
    if let Some(allowed) = &app.options.cors {
        routes = routes.layer(auth::cors(allowed));
    }
    routes
        .layer(from_fn_with_state(Arc::clone(&app), auth::check_origin))
        .with_state(app)
}
