//! `POST /v1/completions`: what follows a prompt, or each of several.
//!
//! Prompts are texts or token ids. `echo` with `logprobs` adds the log-probabilities of the
//! prompt's own tokens, which is how lm-evaluation-harness scores choices.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::app::App;
use super::body::{JsonBody, Prompts, in_range};
use super::completion_stream::Delta;
use super::endpoint::{Endpoint, finish_reason, logprob_json};
use super::error::{ApiError, Result};
use super::generation::Generation;
use super::generation_params::{GenerationParams, MAX_TOP_LOGPROBS};
use retort_engine::logprobs::Logprob;
use retort_engine::tokenizer::Tokenizer;

/// Prompts, and answers, in one request.
const MAX_PROMPTS: usize = 256;
/// Tokens of an answer that sets no limit, as OpenAI has it.
const MAX_TOKENS: usize = 16;

/// The fields of a request beside its [`GenerationParams`].
#[derive(Deserialize)]
struct CompletionRequest {
    prompt: Prompts,
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
    #[serde(default)]
    echo: bool,
    best_of: Option<usize>,
    #[serde(default)]
    suffix: String,
}

/// Answers as text completions.
pub(super) struct TextCompletion {
    /// Each answer's prompt, if it is to be repeated.
    echoed: Vec<Vec<u32>>,
    /// Characters of each of these prompts' tokens, each decoded by itself, with log-probabilities.
    echoed_chars: Vec<usize>,
    logprobs: bool,
}

impl Endpoint for TextCompletion {
    const ID: &str = "cmpl";
    const OBJECT: &str = "text_completion";
    const CHUNK: &str = "text_completion";

    fn read(app: &App, body: &JsonBody) -> Result<(Self, Generation)> {
        let params = GenerationParams::read(body)?;
        let request: CompletionRequest = body.read()?;
        let n = params.n;
        if request.best_of.is_some_and(|best_of| best_of != n) {
            let problem = "only the same as n is supported";
            return Err(ApiError::field("best_of", problem));
        }
        if !request.suffix.is_empty() {
            return Err(ApiError::field("suffix", "this is not supported"));
        }
        let logprobs = request.logprobs;
        let logprobs = logprobs.map(|top| in_range("logprobs", top, 0..=MAX_TOP_LOGPROBS));
        let logprobs = logprobs.transpose()?;
        let max_tokens = match request.max_tokens {
            Some(max_tokens) => in_range("max_tokens", max_tokens, 0..=app.context())?,
            None => MAX_TOKENS,
        };
        let prompts = request.prompt.encode(app, "prompt", MAX_PROMPTS)?;
        if prompts.len() * n > MAX_PROMPTS {
            let problem = format!("at most {MAX_PROMPTS} answers in one request");
            return Err(ApiError::field("prompt", problem));
        }
        let echoed = prompts.iter().filter(|_| request.echo);
        let echoed: Vec<Vec<u32>> = echoed
            .flat_map(|prompt| std::iter::repeat_n(prompt.clone(), n))
            .collect();
        let tokenizer = &app.model.tokenizer;
        let chars = |id: &u32| tokenizer.decode(&[*id]).chars().count();
        let counted = echoed.iter().filter(|_| logprobs.is_some());
        let completion = Self {
            echoed_chars: counted
                .map(|prompt| prompt.iter().map(chars).sum())
                .collect(),
            echoed,
            logprobs: logprobs.is_some(),
        };
        let generation = Generation {
            prompts,
            params,
            max_tokens,
            logprobs,
            prompt_logprobs: request.echo && logprobs.is_some(),
            tool_calls: false,
        };
        Ok((completion, generation))
    }

    fn choice(&self, app: &App, index: usize, answer: &Delta) -> Value {
        self.choice_with(app, index, answer, true)
    }

    fn opening(&self, app: &App, index: usize) -> Option<Value> {
        let echoes = !self.echoed.is_empty() && !self.logprobs;
        echoes.then(|| self.choice_with(app, index, &Delta::default(), true))
    }

    fn delta(&self, app: &App, index: usize, delta: &Delta) -> Value {
        // with log-probabilities, the prompt comes in the first delta instead of the opening
        self.choice_with(app, index, delta, delta.first && self.logprobs)
    }
}

impl TextCompletion {
    /// A choice, which repeats the prompt if `echo` is set and the request asks for it.
    fn choice_with(&self, app: &App, index: usize, delta: &Delta, echo: bool) -> Value {
        let tokenizer = &app.model.tokenizer;
        let prompt = self.echoed.get(index).filter(|_| echo);
        let prompt = prompt.map_or(&[][..], |prompt| prompt);
        let text = tokenizer.decode(prompt) + &delta.text;
        let logprobs = self.logprobs.then(|| {
            let mut lists = LogprobLists::default();
            if !echo {
                let prompt = self.echoed_chars.get(index).copied().unwrap_or(0);
                lists.offset = prompt + delta.chars_before;
            }
            if let Some(&first) = prompt.first() {
                // nothing comes before it
                lists.add(tokenizer, first, Value::Null, Value::Null);
            }
            for token in delta.prompt.iter().chain(&delta.tokens) {
                lists.push(tokenizer, token);
            }
            lists.json()
        });
        json!({
            "text": text,
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish_reason(delta),
        })
    }
}

/// Log-probabilities as completions have them: four lists in step.
#[derive(Default)]
struct LogprobLists {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    offset: usize,
}

impl LogprobLists {
    fn push(&mut self, tokenizer: &Tokenizer, token: &Logprob) {
        let mut top = Map::new();
        // of tokens that decode to the same text, the likeliest counts
        for (id, logprob) in &token.top {
            top.entry(tokenizer.decode(&[*id]))
                .or_insert_with(|| logprob_json(*logprob));
        }
        let logprob = logprob_json(token.logprob);
        self.add(tokenizer, token.id, logprob, top.into());
    }

    fn add(&mut self, tokenizer: &Tokenizer, id: u32, logprob: Value, top: Value) {
        let text = tokenizer.decode(&[id]);
        self.offsets.push(self.offset.into());
        self.offset += text.chars().count();
        self.tokens.push(text.into());
        self.logprobs.push(logprob);
        self.top.push(top);
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}
