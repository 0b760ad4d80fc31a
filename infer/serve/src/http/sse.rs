//! Answers on their way out: several at a time, whole or as server-sent events.
//!
//! In: the scheduler's events of each answer; out: the pieces of text they become, with the tokens behind them. What
//! kind of object a piece is written as is the caller's ([`Shape`]). A client that goes away drops what is here, and
//! with it the scheduler's receivers, which cancels the answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio::task::JoinSet;

use super::App;
use super::completion_stream::{Answer, Piece, lost};
use super::error::{ApiError, json_response};
use crate::scheduler::{Event, Usage};
use retort_engine::decode::End;

/// Events of a stream that wait for the client.
const AHEAD: usize = 64;
/// How often a stream that has nothing to say says so, which shows whether the client is still there.
const PULSE: Duration = Duration::from_secs(10);

/// How answers are written.
pub(super) trait Shape: Send + Sync + 'static {
    /// The body of a whole response.
    fn whole(&self, app: &App, answers: &[Piece], usage: Usage) -> Value;
    /// What comes before the first piece of answer `index` in a stream, if anything.
    fn opening(&self, app: &App, index: usize) -> Option<Value>;
    /// A piece of answer `index` in a stream.
    fn piece(&self, app: &App, index: usize, piece: &Piece) -> Value;
    /// The last event of a stream, if usage is asked for.
    fn usage(&self, app: &App, usage: Usage) -> Value;
}

/// How a request wants its answers.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub stream: bool,
    pub include_usage: bool,
    pub stops: Vec<String>,
    pub logprobs: bool,
    /// Whether calls of tools are taken out of the text.
    pub calls: bool,
    /// Tokens of each answer's prompt.
    pub prompts: Vec<usize>,
    /// How many of the answers share a prompt, whose tokens count once.
    pub n: usize,
}

/// Waits for the answers, or begins to stream them.
pub(super) async fn deliver(
    app: Arc<App>,
    shape: impl Shape,
    delivery: Delivery,
    events: Vec<UnboundedReceiver<Event>>,
) -> Result<Response, ApiError> {
    if delivery.stream {
        let (sender, receiver) = channel(AHEAD);
        tokio::spawn(stream(app, Arc::new(shape), delivery, events, sender));
        let mut response = Response::new(Body::new(Events(receiver)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(response);
    }
    let mut answers = vec![Piece::default(); events.len()];
    let mut usages = vec![Usage::default(); events.len()];
    // dropping the set, when the client goes away, ends its tasks
    let mut tasks = JoinSet::new();
    for (index, events) in events.into_iter().enumerate() {
        let mut answer = Answer::new(Arc::clone(&app), &delivery, index, events);
        tasks.spawn(async move {
            let mut all = Piece::default();
            while let Some(piece) = answer.next().await? {
                all.text += &piece.text;
                all.calls.extend(piece.calls);
                all.tokens.extend(piece.tokens);
                all.prompt.extend(piece.prompt);
                all.end = piece.end;
            }
            Ok::<_, ApiError>((index, all, answer.usage))
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (index, answer, usage) = done.map_err(|_| lost())??;
        answers[index] = answer;
        usages[index] = usage;
    }
    let usage = total(&usages, delivery.n);
    Ok(json_response(
        StatusCode::OK,
        &shape.whole(&app, &answers, usage),
    ))
}

/// What answers took together.
fn total(usages: &[Usage], n: usize) -> Usage {
    let mut total = Usage::default();
    for (index, usage) in usages.iter().enumerate() {
        total.answer += usage.answer;
        if index % n.max(1) == 0 {
            total.prompt += usage.prompt;
            total.reused += usage.reused;
        }
    }
    total
}

/// Writes all answers as events, as they come.
async fn stream(
    app: Arc<App>,
    shape: Arc<impl Shape>,
    delivery: Delivery,
    events: Vec<UnboundedReceiver<Event>>,
    sender: Sender<Bytes>,
) {
    let mut usages = vec![Usage::default(); events.len()];
    let mut tasks = JoinSet::new();
    for (index, events) in events.into_iter().enumerate() {
        let answer = Answer::new(Arc::clone(&app), &delivery, index, events);
        let (app, shape, sender) = (Arc::clone(&app), Arc::clone(&shape), sender.clone());
        tasks.spawn(async move {
            let done = stream_one(&app, &*shape, index, answer, &sender).await;
            (index, done)
        });
    }
    let mut failed = None;
    loop {
        let done = tokio::select! {
            // the tasks end with the set
            () = sender.closed() => return,
            done = tasks.join_next() => done,
        };
        match done {
            None => break,
            Some(Ok((index, Ok(usage)))) => usages[index] = usage,
            Some(Ok((_, Err(error)))) => failed = Some(error),
            Some(Err(_)) => failed = Some(lost()),
        }
    }
    if let Some(error) = failed {
        let _ = sender.send(event(&error.json())).await;
        return;
    }
    if delivery.include_usage {
        let usage = shape.usage(&app, total(&usages, delivery.n));
        let _ = sender.send(event(&usage)).await;
    }
    let _ = sender.send(Bytes::from_static(b"data: [DONE]\n\n")).await;
}

async fn stream_one(
    app: &App,
    shape: &impl Shape,
    index: usize,
    mut answer: Answer,
    sender: &Sender<Bytes>,
) -> Result<Usage, ApiError> {
    // a send fails when the client is gone, which ends this task from outside
    if let Some(opening) = shape.opening(app, index) {
        let _ = sender.send(event(&opening)).await;
    }
    loop {
        match tokio::time::timeout(PULSE, answer.next()).await {
            Err(_) => drop(sender.send(Bytes::from_static(b": waiting\n\n")).await),
            Ok(piece) => match piece? {
                Some(piece) => drop(sender.send(event(&shape.piece(app, index, &piece))).await),
                None => return Ok(answer.usage),
            },
        }
    }
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// A stream's events as a body.
struct Events(Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let received = self.0.poll_recv(cx);
        received.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Usage as the API tells it.
pub(super) fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.answer,
        "total_tokens": usage.prompt + usage.answer,
        "prompt_tokens_details": {"cached_tokens": usage.reused},
    })
}

/// The API's word for why an answer ended.
pub(super) fn reason(end: Option<End>) -> Value {
    match end {
        None => Value::Null,
        Some(End::Stop) => "stop".into(),
        Some(End::Length) => "length".into(),
    }
}
