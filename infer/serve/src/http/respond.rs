//! `POST /v1/completions` and `POST /v1/chat/completions`: from the request to the response.
//!
//! A client that goes away drops what is here, and with it the receivers of the scheduler's events,
//! which cancels its answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::app::App;
use super::body::{JsonBody, run_blocking};
use super::completion_stream::{CompletionStream, Delta};
use super::endpoint::{Endpoint, ResponseWriter};
use super::error::Result;
use super::sse;

/// Answers whole, or begins a stream.
pub(super) async fn complete<E: Endpoint>(
    State(app): State<Arc<App>>,
    body: JsonBody,
) -> Result<Response> {
    let shared = Arc::clone(&app);
    let (endpoint, generation, requests) = run_blocking(move || {
        let (endpoint, generation) = E::read(&shared, &body)?;
        let requests = generation.requests(&shared)?;
        Ok((endpoint, generation, requests))
    })
    .await?;
    let prompt_tokens: Vec<usize> = (requests.iter())
        .map(|request| request.prompt.len())
        .collect();
    let events = app.scheduler.submit(requests)?;
    let count = events.len();
    let streams =
        (events.into_iter().zip(prompt_tokens).enumerate()).map(|(index, (events, n))| {
            let completion = CompletionStream::new(Arc::clone(&app), events, &generation, n);
            let deltas = completion.deltas().map(move |delta| (index, delta));
            deltas.boxed()
        });
    let mut deltas = select_all(streams);
    let params = &generation.params;
    let mut writer = ResponseWriter::new(
        Arc::clone(&app),
        endpoint,
        params.n,
        params.stream && params.include_usage,
    );
    if params.stream {
        return Ok(sse::response(writer, deltas, count));
    }
    let mut answers = vec![Delta::default(); count];
    while let Some((index, delta)) = deltas.next().await {
        let delta = delta?;
        writer.count(index, &delta);
        answers[index].append(delta);
    }
    Ok(Json(writer.whole(&answers)).into_response())
}
