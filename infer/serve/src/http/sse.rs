//! Answers as server-sent events, in the order in which their deltas come.
//!
//! In: the deltas of all answers of a request. Out: a response whose events are chunks, then the
//! usage if it is asked for, then `[DONE]`; an error ends the stream instead.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{iter, unfold};
use futures_util::{Stream, StreamExt};
use hyper::header::CACHE_CONTROL;
use serde_json::Value;

use super::completion_stream::Delta;
use super::endpoint::{Endpoint, ResponseWriter};
use super::error::{ApiError, Result};

/// How often a stream that has nothing to send sends a comment, which shows whether the client is
/// still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A response that streams the `count` answers of `deltas`, each of which has its answer's index.
pub(super) fn response<E: Endpoint>(
    writer: ResponseWriter<E>,
    deltas: impl Stream<Item = (usize, Result<Delta>)> + Send + Unpin + 'static,
    count: usize,
) -> Response {
    let openings: Vec<Event> = (0..count)
        .filter_map(|index| writer.opening(index).as_ref().map(event))
        .collect();
    let stream = EventStream {
        writer,
        deltas,
        failed: None,
    };
    let events = unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        let (events, more) = match stream.deltas.next().await {
            Some((index, Ok(delta))) => {
                stream.writer.count(index, &delta);
                (vec![event(&stream.writer.chunk(index, &delta))], true)
            }
            Some((_, Err(error))) => {
                // the other answers go on
                stream.failed = Some(error);
                (Vec::new(), true)
            }
            None => (stream.last_events(), false),
        };
        Some((iter(events), more.then_some(stream)))
    });
    let events = iter(openings).chain(events.flatten());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("waiting");
    let sse = Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive);
    ([(CACHE_CONTROL, "no-store")], sse).into_response()
}

struct EventStream<E, S> {
    writer: ResponseWriter<E>,
    deltas: S,
    /// The error of an answer, if one has failed.
    failed: Option<ApiError>,
}

impl<E: Endpoint, S> EventStream<E, S> {
    /// What comes after the last delta.
    fn last_events(&self) -> Vec<Event> {
        if let Some(error) = &self.failed {
            return vec![event(&error.json())];
        }
        let usage = self.writer.usage().as_ref().map(event);
        let done = Event::default().data("[DONE]");
        usage.into_iter().chain([done]).collect()
    }
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
