//! One answer, from the scheduler's events to pieces of text.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::sync::mpsc::UnboundedReceiver;

use super::App;
use super::error::ApiError;
use super::sse::Delivery;
use super::stop_sequences::Text;
use super::tool_calls::{Call, Calls};
use crate::scheduler::{Event, Usage};
use retort_engine::decode::End;
use retort_engine::logprobs::Logprob;

/// A part of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// Whether it is the answer's first.
    pub first: bool,
    /// Text that is certain now.
    pub text: String,
    /// Calls of tools that are complete now.
    pub calls: Vec<Call>,
    /// How many came with earlier pieces.
    pub calls_before: usize,
    /// The tokens behind it, if their probabilities are told.
    pub tokens: Vec<Logprob>,
    /// The tokens of the prompt from the second on, in the first piece, if they are told.
    pub prompt: Vec<Logprob>,
    /// Why the answer ended, in its last piece.
    pub end: Option<End>,
}

/// One answer being made into pieces.
pub(super) struct Answer {
    app: Arc<App>,
    events: UnboundedReceiver<Event>,
    text: Text,
    /// What takes calls of tools out of the text, where there may be some.
    calls: Option<Calls>,
    called: usize,
    logprobs: bool,
    /// Told with the next piece that has text.
    tokens: Vec<Logprob>,
    prompt: Vec<Logprob>,
    begun: bool,
    count: usize,
    over: bool,
    pub usage: Usage,
}

impl Answer {
    pub fn new(
        app: Arc<App>,
        delivery: &Delivery,
        index: usize,
        events: UnboundedReceiver<Event>,
    ) -> Self {
        Self {
            app,
            events,
            text: Text::new(&delivery.stops),
            calls: delivery.calls.then(Calls::default),
            called: 0,
            logprobs: delivery.logprobs,
            tokens: Vec::new(),
            prompt: Vec::new(),
            begun: false,
            count: 0,
            over: false,
            usage: Usage {
                prompt: delivery.prompts.get(index).copied().unwrap_or(0),
                ..Usage::default()
            },
        }
    }

    /// The next piece; none after the last. May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        while !self.over {
            match self.events.recv().await {
                Some(Event::Prompt(tokens)) => self.prompt = tokens,
                Some(Event::Token(token)) => {
                    let text = self.text.push(&self.app.model.tokenizer, token.id);
                    self.count += 1;
                    if self.logprobs {
                        self.tokens.push(token);
                    }
                    if self.text.stopped() {
                        // nothing more is wanted
                        self.events.close();
                        self.usage.answer = self.count;
                        return Ok(Some(self.last(text, End::Stop)));
                    }
                    let (text, calls) = self.take_calls(text);
                    if !text.is_empty() || !calls.is_empty() {
                        return Ok(Some(self.piece(text, calls)));
                    }
                }
                Some(Event::End(end, usage)) => {
                    self.usage = usage;
                    let text = self.text.finish();
                    let end = if self.text.stopped() { End::Stop } else { end };
                    return Ok(Some(self.last(text, end)));
                }
                Some(Event::Failed(problem)) => {
                    return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, problem));
                }
                Some(Event::Embedding(_)) => {}
                None => return Err(lost()),
            }
        }
        Ok(None)
    }

    /// A text without its calls of tools, and these.
    fn take_calls(&mut self, text: String) -> (String, Vec<Call>) {
        match &mut self.calls {
            Some(calls) => calls.push(&text),
            None => (text, Vec::new()),
        }
    }

    fn piece(&mut self, text: String, calls: Vec<Call>) -> Piece {
        let calls_before = self.called;
        self.called += calls.len();
        Piece {
            first: !std::mem::replace(&mut self.begun, true),
            text,
            calls,
            calls_before,
            tokens: std::mem::take(&mut self.tokens),
            prompt: std::mem::take(&mut self.prompt),
            end: None,
        }
    }

    fn last(&mut self, text: String, end: End) -> Piece {
        self.over = true;
        let (mut text, mut calls) = self.take_calls(text);
        if let Some(all) = &mut self.calls {
            let (rest, call) = all.finish();
            text += &rest;
            calls.extend(call);
        }
        Piece {
            end: Some(end),
            ..self.piece(text, calls)
        }
    }
}

/// What is told of an answer whose engine is gone.
pub(super) fn lost() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the engine has ended")
}
