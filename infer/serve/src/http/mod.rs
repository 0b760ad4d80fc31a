//! A model over HTTP, as OpenAI's API has it.
//!
//! ```text
//! listen (limits on connections and patience) ─► admission (key, host, origin) ─► routes
//!    completions · chat · embeddings ─► scheduler ─► answers (whole, or as server-sent events)
//!    tokenize · detokenize · tokenizer_info · models · health · metrics · the page at /
//! ```
//!
//! Safe without configuration: it listens on the loopback interface only, wants an API key to listen elsewhere, answers
//! no other origin's pages, and bounds bodies, tokens, time, connections and waiting requests.

mod auth;
mod chat;
mod chat_prompt;
mod completion_stream;
mod completions;
mod connections;
mod embeddings;
mod error;
mod json_fields;
mod request;
mod sse;
mod status;
mod stop_sequences;
mod tokenize;
mod tool_calls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::routing::{get, post};
use hyper::StatusCode;

use crate::scheduler::{Limits, Scheduler};
use error::ApiError;
use json_fields::Fields;
use request::Options;
use retort_engine::Model;
use retort_engine::constrain::{Constraint, Forms};
use retort_engine::decoder::PAGE;
use retort_engine::speculate::Speculation;
use retort_engine::template::Template;
use retort_files::memory::available_bytes;
use retort_format::{Error, Result};

pub use connections::Server;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
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

impl Settings {
    /// What fits `model` and the memory that is free, on port 8080 of the loopback interface.
    pub fn new(model: &Model) -> Self {
        let limits = default_limits(model, None, None);
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api_key: None,
            cors: None,
            name: None,
            limits,
            speculation: Speculation::Off,
            max_tokens: 2048,
            max_body: 4 << 20,
            connections: 256,
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// Limits for `model`: a context of at most 8,192 tokens, room for four of them in all, or what half of the free memory
/// holds, but one context at least.
pub fn default_limits(model: &Model, context: Option<usize>, positions: Option<usize>) -> Limits {
    const CONTEXT: usize = 8192;
    let config = model.engine.config();
    let context = context.unwrap_or(config.context_length.min(CONTEXT));
    let page_bytes = config
        .kv_cache_bytes(PAGE, model.engine.settings().kv)
        .unwrap_or(usize::MAX);
    let free = available_bytes().map_or(u64::MAX, |free| free / 2);
    let fit = (free / page_bytes as u64).saturating_mul(PAGE as u64);
    let most = context.saturating_mul(4);
    let fitting = most
        .min(usize::try_from(fit).unwrap_or(usize::MAX))
        .max(context);
    Limits {
        context,
        positions: positions.unwrap_or(fitting).next_multiple_of(PAGE),
        parallel: 32,
        queue: 256,
        timeout: Duration::from_secs(600),
    }
}

/// What every request needs.
#[derive(Debug)]
struct App {
    model: Arc<Model>,
    name: String,
    created: u64,
    /// Bytes of the longest token.
    longest: usize,
    /// Why there are no conversations, if so.
    template: std::result::Result<Template, String>,
    /// Why answers cannot be held to a form, if so.
    forms: std::result::Result<Forms, String>,
    scheduler: Scheduler,
    settings: Settings,
}

impl App {
    fn new(model: Arc<Model>, settings: Settings) -> Result<Self> {
        check(&settings)?;
        let path = model.engine.gguf().path();
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            name: settings
                .name
                .clone()
                .or(stem)
                .unwrap_or_else(|| "model".into()),
            created: since.map_or(0, |since| since.as_secs()),
            longest: (0..model.tokenizer.vocab_size() as u32)
                .map(|id| model.tokenizer.bytes(id).len())
                .max()
                .unwrap_or(0),
            template: Template::from_gguf(model.engine.gguf(), &model.tokenizer)
                .map_err(|error| error.to_string()),
            forms: Forms::new(&model.tokenizer),
            scheduler: Scheduler::speculating(
                Arc::clone(&model),
                settings.limits.clone(),
                settings.speculation.clone(),
            )?,
            model,
            settings,
        })
    }

    /// Refuses a text that has too many tokens however it is cut, before it is cut.
    fn check_length(&self, name: &str, text: &str) -> std::result::Result<(), ApiError> {
        let context = self.settings.limits.context;
        match text.len() > context.saturating_mul(self.longest) {
            true => {
                let bytes = text.len();
                let problem = format!("{bytes} bytes exceed the context of {context} tokens");
                Err(ApiError::field(name, problem).with_code("context_length_exceeded"))
            }
            false => Ok(()),
        }
    }

    /// The ids of a text as the model was trained to see it.
    fn prompt(&self, name: &str, text: &str) -> std::result::Result<Vec<u32>, ApiError> {
        self.check_length(name, text)?;
        let ids = self.model.prompt(text);
        ids.map_err(|error| ApiError::field(name, error))
    }

    /// A name for a response.
    fn id(&self, kind: &str) -> String {
        format!("{kind}-{:016x}", rand::random::<u64>())
    }

    /// What holds an answer to the form that was asked for.
    fn constraint(&self, options: &Options) -> std::result::Result<Option<Constraint>, ApiError> {
        let Some(form) = &options.form else {
            return Ok(None);
        };
        let forms = self.forms.as_ref().map_err(ApiError::bad)?;
        let constraint = forms.compile(form);
        let bad = |problem| ApiError::field("response_format", problem);
        constraint.map(Some).map_err(bad)
    }

    /// Refuses another model than this one.
    fn check_model(&self, fields: &Fields) -> std::result::Result<(), ApiError> {
        match fields.text("model")? {
            Some(name) if name != self.name => {
                let message = format!("the model {name:?} does not exist; this is {:?}", self.name);
                let error = ApiError::new(StatusCode::NOT_FOUND, message);
                Err(ApiError {
                    param: Some("model".into()),
                    ..error.with_code("model_not_found")
                })
            }
            _ => Ok(()),
        }
    }
}

/// Refuses settings that would be unsafe.
fn check(settings: &Settings) -> Result<()> {
    let problem = match settings {
        Settings {
            api_key: None,
            address,
            ..
        } if !address.ip().is_loopback() => {
            format!("to listen on {address}, set an API key (--api-key or RETORT_API_KEY)")
        }
        Settings {
            api_key: Some(key), ..
        } if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) => {
            "the API key must be printable ASCII without spaces, and not empty".into()
        }
        Settings { connections: 0, .. } => "there must be at least one connection".into(),
        _ => return Ok(()),
    };
    Err(Error::Argument(problem))
}

fn routes(app: Arc<App>) -> Router {
    let open = Router::new()
        .route("/", get(status::page))
        .route("/health", get(status::health));
    let guarded = Router::new()
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{name}", get(status::model))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/tokenizer_info", get(tokenize::info))
        .route("/metrics", get(status::metrics))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&app),
            auth::key,
        ));
    open.merge(guarded)
        .fallback(status::not_found)
        .method_not_allowed_fallback(status::wrong_method)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&app),
            auth::origin,
        ))
        .with_state(app)
}

/// A request's body, within the limits on bytes and time.
async fn body(app: &App, request: Request) -> std::result::Result<Bytes, ApiError> {
    let limit = app.settings.max_body;
    let read = axum::body::to_bytes(request.into_body(), limit);
    match tokio::time::timeout(app.settings.patience, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is cut short, or has more than {limit} bytes"),
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// Does `work`, which computes, away from the thread that serves connections.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, ApiError> + Send + 'static,
) -> std::result::Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request could not be prepared",
        )),
    }
}
