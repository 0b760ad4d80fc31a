//! One answer, from the scheduler's events to deltas of text.
//!
//! In: the events of one request. Out: deltas, each with the text that has become certain, the tool
//! calls that are complete, and the tokens behind them.

use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::mpsc::UnboundedReceiver;

use super::app::App;
use super::error::{ApiError, Result};
use super::generation::Generation;
use super::stop_sequences::StopFilter;
use super::tool_calls::{ToolCall, ToolCallParser};
use crate::scheduler::{Event, Usage};
use retort_engine::decode::End;
use retort_engine::logprobs::Logprob;

/// A part of an answer, or all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta {
    /// Whether it is the answer's first.
    pub first: bool,
    /// Text that is certain now.
    pub text: String,
    /// Tool calls that are complete now.
    pub tool_calls: Vec<ToolCall>,
    /// Tool calls of earlier deltas.
    pub tool_calls_before: usize,
    /// The tokens behind it, if log-probabilities are asked for.
    pub tokens: Vec<Logprob>,
    /// Characters of the tokens of earlier deltas, each decoded by itself.
    pub chars_before: usize,
    /// The prompt's tokens from the second on, in the first delta, if they are asked for.
    pub prompt: Vec<Logprob>,
    /// Why the answer ended and what it took, in its last delta.
    pub finish: Option<(End, Usage)>,
}

impl Delta {
    /// Appends the delta that follows.
    pub fn append(&mut self, next: Self) {
        self.text += &next.text;
        self.tool_calls.extend(next.tool_calls);
        self.tokens.extend(next.tokens);
        self.prompt.extend(next.prompt);
        self.finish = next.finish;
    }
}

/// Makes deltas of one request's events.
pub(super) struct CompletionStream {
    app: Arc<App>,
    events: UnboundedReceiver<Event>,
    stop_filter: StopFilter,
    tool_calls: Option<ToolCallParser>,
    logprobs: bool,
    /// Tokens of the prompt, and of the answer so far.
    usage: Usage,
    /// What the next delta carries.
    pending: Delta,
}

impl CompletionStream {
    /// For a request with `prompt_tokens` whose `events` come from the scheduler.
    pub fn new(
        app: Arc<App>,
        events: UnboundedReceiver<Event>,
        generation: &Generation,
        prompt_tokens: usize,
    ) -> Self {
        Self {
            app,
            events,
            stop_filter: StopFilter::new(&generation.params.stops),
            tool_calls: generation.tool_calls.then(ToolCallParser::default),
            logprobs: generation.logprobs.is_some(),
            usage: Usage {
                prompt: prompt_tokens,
                ..Usage::default()
            },
            pending: Delta {
                first: true,
                ..Delta::default()
            },
        }
    }

    /// The deltas up to the last one, or to an error. Dropping the stream cancels the request.
    pub fn deltas(self) -> impl Stream<Item = Result<Delta>> + Send {
        unfold(Some(self), |stream| async move {
            let mut stream = stream?;
            let delta = stream.next().await;
            let more = matches!(&delta, Ok(delta) if delta.finish.is_none());
            Some((delta, more.then_some(stream)))
        })
    }

    async fn next(&mut self) -> Result<Delta> {
        loop {
            match self.events.recv().await {
                Some(Event::Prompt(tokens)) => self.pending.prompt = tokens,
                Some(Event::Token(token)) => {
                    let text = self.stop_filter.push(&self.app.model.tokenizer, token.id);
                    self.usage.answer += 1;
                    if self.logprobs {
                        self.pending.tokens.push(token);
                    }
                    if self.stop_filter.stopped() {
                        return Ok(self.last(&text, End::Stop, self.usage));
                    }
                    self.take_tool_calls(&text);
                    if !self.pending.text.is_empty() || !self.pending.tool_calls.is_empty() {
                        return Ok(self.take_pending());
                    }
                }
                Some(Event::End(end, usage)) => {
                    let text = self.stop_filter.finish();
                    let stopped = self.stop_filter.stopped();
                    let end = if stopped { End::Stop } else { end };
                    return Ok(self.last(&text, end, usage));
                }
                Some(Event::Failed(problem)) => return Err(ApiError::internal(problem)),
                Some(Event::Embedding(_)) => {}
                None => return Err(ApiError::engine_ended()),
            }
        }
    }

    /// Adds `text` without its tool calls, and these, to the pending delta.
    fn take_tool_calls(&mut self, text: &str) {
        match &mut self.tool_calls {
            Some(parser) => {
                let (text, calls) = parser.push(text);
                self.pending.text += &text;
                self.pending.tool_calls.extend(calls);
            }
            None => self.pending.text += text,
        }
    }

    fn take_pending(&mut self) -> Delta {
        let delta = std::mem::take(&mut self.pending);
        let chars = delta.tokens.iter().map(|token| {
            let text = self.app.model.tokenizer.decode(&[token.id]);
            text.chars().count()
        });
        self.pending.chars_before = delta.chars_before + chars.sum::<usize>();
        self.pending.tool_calls_before = delta.tool_calls_before + delta.tool_calls.len();
        delta
    }

    fn last(&mut self, text: &str, end: End, usage: Usage) -> Delta {
        self.take_tool_calls(text);
        if let Some(parser) = &mut self.tool_calls {
            let (rest, call) = parser.finish();
            self.pending.text += &rest;
            self.pending.tool_calls.extend(call);
        }
        self.pending.finish = Some((end, usage));
        self.take_pending()
    }
}
