//! What a request for completions has generated: from its prompts to the scheduler's requests.

use super::app::App;
use super::error::Result;
use super::generation_params::GenerationParams;
use crate::scheduler::{Generate, Request, Task};
use retort_engine::decode::DecodeOptions;

/// What is to be generated.
pub(super) struct Generation {
    pub prompts: Vec<Vec<u32>>,
    pub params: GenerationParams,
    /// Tokens of each answer.
    pub max_tokens: usize,
    /// How many of the likeliest tokens come with each token; `None` for no log-probabilities.
    pub logprobs: Option<usize>,
    /// Whether the log-probabilities of the prompts' tokens come too.
    pub prompt_logprobs: bool,
    /// Whether tool calls are taken out of the text.
    pub tool_calls: bool,
}

impl Generation {
    /// A request for each answer: the `n` answers to the first prompt, then those to the second.
    pub fn requests(&self, app: &App) -> Result<Vec<Request>> {
        let params = &self.params;
        let mut requests = Vec::new();
        for prompt in &self.prompts {
            for i in 0..params.n {
                let mut sampling = params.sampling.clone();
                sampling.seed = sampling.seed.wrapping_add(i as u64);
                let form = params.form.as_ref();
                let options = DecodeOptions {
                    max_tokens: self.max_tokens,
                    sampling,
                    constraint: form.map(|form| app.constraint(form)).transpose()?,
                    logprobs: self.logprobs,
                    ignore_end: params.ignore_end,
                };
                let generate = Generate {
                    options,
                    prompt_logprobs: self.prompt_logprobs,
                };
                requests.push(Request {
                    prompt: prompt.clone(),
                    task: Task::Generate(Box::new(generate)),
                });
            }
        }
        Ok(requests)
    }
}
