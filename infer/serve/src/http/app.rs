//! What every request needs: the model, its scheduler, and the checks against them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::ServerOptions;
use super::error::{ApiError, Result};
use crate::scheduler::Scheduler;
use retort_engine::Model;
use retort_engine::constrain::{Constraint, Form, Forms};
use retort_engine::template::Template;
use retort_format::Error;

/// The state that all requests share.
#[derive(Debug)]
pub(super) struct App {
    pub model: Arc<Model>,
    /// The model's name.
    pub name: String,
    /// When the server began, in seconds since 1970.
    pub created: u64,
    /// Bytes of the longest token.
    longest_token: usize,
    /// The chat template, or why there is none.
    pub template: std::result::Result<Template, String>,
    /// What compiles constraints, or why there is nothing that does.
    forms: std::result::Result<Forms, String>,
    pub scheduler: Scheduler,
    pub options: ServerOptions,
}

impl App {
    /// Starts the engine.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for options that are unsafe or limits that do not fit.
    pub fn new(model: Arc<Model>, options: ServerOptions) -> retort_format::Result<Self> {
        check(&options)?;
        let gguf = model.engine.gguf();
        let stem = gguf.path().file_stem();
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
        let name = options.name.clone().or(stem);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let tokens = 0..model.tokenizer.vocab_size() as u32;
        let token_bytes = tokens.map(|id| model.tokenizer.bytes(id).len());
        Ok(Self {
            name: name.unwrap_or_else(|| "model".into()),
            created: since.map_or(0, |since| since.as_secs()),
            longest_token: token_bytes.max().unwrap_or(0),
            template: Template::from_gguf(gguf, &model.tokenizer)
                .map_err(|error| error.to_string()),
            forms: Forms::new(&model.tokenizer),
            scheduler: Scheduler::speculating(
                Arc::clone(&model),
                options.limits.clone(),
                options.speculation.clone(),
            )?,
            model,
            options,
        })
    }

    /// Tokens of one request, prompt and answer.
    pub fn context(&self) -> usize {
        self.options.limits.context
    }

    /// Refuses a text that has too many tokens however it is split, before it is split.
    pub fn check_length(&self, name: &str, text: &str) -> Result<()> {
        let (bytes, context) = (text.len(), self.context());
        if bytes <= context.saturating_mul(self.longest_token) {
            return Ok(());
        }
        let problem = format!("{bytes} bytes exceed the context of {context} tokens");
        Err(ApiError::field(name, problem).with_code("context_length_exceeded"))
    }

    /// The ids of a text as the model was trained to see it.
    pub fn encode_prompt(&self, name: &str, text: &str) -> Result<Vec<u32>> {
        self.check_length(name, text)?;
        let ids = self.model.prompt(text);
        ids.map_err(|error| ApiError::field(name, error))
    }

    /// Compiles what holds an answer to `form`.
    pub fn constraint(&self, form: &Form) -> Result<Constraint> {
        let forms = self.forms.as_ref().map_err(ApiError::bad)?;
        let constraint = forms.compile(form);
        constraint.map_err(|problem| ApiError::field("response_format", problem))
    }

    /// Refuses another model than this one.
    pub fn check_model(&self, name: &str) -> Result<()> {
        if name == self.name {
            return Ok(());
        }
        let message = format!("the model {name:?} does not exist; this is {:?}", self.name);
        let error = ApiError::new(StatusCode::NOT_FOUND, message);
        Err(ApiError {
            param: Some("model".into()),
            ..error.with_code("model_not_found")
        })
    }
}

/// Refuses options that would be unsafe.
fn check(options: &ServerOptions) -> retort_format::Result<()> {
    let address = options.address;
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
    let is_header = |text: &String| HeaderValue::from_str(text).is_ok();
    let problem = match &options.api_key {
        None if !address.ip().is_loopback() => {
            format!("to listen on {address}, set an API key (--api-key or RETORT_API_KEY)")
        }
        Some(key) if !is_key(key) => {
            "the API key must be printable ASCII without spaces, and not empty".into()
        }
        _ if options.connections == 0 => "there must be at least one connection".into(),
        _ if !options.cors.iter().all(is_header) => {
            "the origin of --cors must be printable ASCII, such as https://app.example".into()
        }
        _ => return Ok(()),
    };
    Err(Error::Argument(problem))
}
