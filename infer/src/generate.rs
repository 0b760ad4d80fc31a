//! A model file opened whole, and text that follows a prompt.
//!
//! In: a prompt's token ids; out: text as it becomes certain, and how long prefill and decoding
//! took. Generation ends at the model's end-of-text or end-of-turn token, at the asked number of
//! tokens, or when the caller has had enough.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{Engine, KvType, Settings};
use crate::gguf::Gguf;
use crate::sampling::{Sampler, Sampling};
use crate::tokenizer::{Tokenizer, Utf8Stream};
use crate::{Error, Result};

/// An engine and the tokenizer from the same file.
#[derive(Debug)]
pub struct Model {
    /// The decoder.
    pub engine: Engine,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

/// What a generation did.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The tokens that followed the prompt, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the start to the first sampled token.
    pub prefill: Duration,
    /// From there to the end.
    pub decode: Duration,
    /// Steps of decoding: tokens taken in one at a time.
    pub decode_steps: usize,
}

impl Model {
    /// Opens the GGUF file at `path`, to be run with default settings.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Settings::new(None, false, KvType::default())?)
    }

    /// Opens the GGUF file at `path`.
    pub fn open_with(path: &Path, settings: Settings) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let engine = Engine::with(gguf, settings)?;
        let (rows, tokens) = (engine.config().vocab_size, tokenizer.vocab_size());
        if rows < tokens {
            let problem = format!("{tokens} tokens, but token_embd.weight has {rows} rows");
            return Err(Error::metadata(path, "tokenizer.ggml.tokens", problem));
        }
        Ok(Self { engine, tokenizer })
    }

    /// Generates up to `n` tokens after `prompt`, handing text to `on_text` as it comes.
    pub fn generate(
        &self,
        prompt: &str,
        n: usize,
        sampling: &Sampling,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let ids = self.prompt(prompt)?;
        self.generate_from(&ids, n, sampling, on_text)
    }

    /// The ids of a prompt as the model was trained to see it; never empty.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let path = self.engine.gguf().path();
        let mut ids = self
            .tokenizer
            .encode_prompt(text)
            .map_err(|problem| Error::tokenizer(path, problem))?;
        if ids.is_empty() {
            let start = self.tokenizer.bos().or(self.tokenizer.eos());
            ids.extend(start);
        }
        if ids.is_empty() {
            let problem = "the prompt is empty and the model has no token to begin with";
            return Err(Error::Argument(problem.into()));
        }
        Ok(ids)
    }

    /// Generates up to `n` tokens after the ids `prompt`.
    pub fn generate_from(
        &self,
        prompt: &[u32],
        n: usize,
        sampling: &Sampling,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        sampling.validate().map_err(Error::Argument)?;
        let needed = prompt.len().saturating_add(n);
        let trained = self.engine.config().context_length;
        if needed > trained {
            return Err(Error::Argument(format!(
                "{} prompt tokens and {n} more exceed the model's context of {trained}; \
                 shorten the prompt or generate fewer",
                prompt.len()
            )));
        }
        let mut sampler = Sampler::new(sampling.clone());
        let mut session = self.engine.session(needed)?;
        let mut stream = Utf8Stream::new();
        let mut tokens = Vec::new();
        let (start, mut decode_steps) = (Instant::now(), 0);
        let mut next = sampler.sample(session.forward(prompt)?);
        let prefill = start.elapsed();
        while tokens.len() < n && !self.tokenizer.is_end_of_generation(next) {
            tokens.push(next);
            let text = stream.push(self.tokenizer.bytes(next));
            if !text.is_empty() && on_text(&text).is_break() {
                break;
            }
            if tokens.len() < n {
                next = sampler.sample(session.forward(&[next])?);
                decode_steps += 1;
            }
        }
        let rest = stream.finish();
        if !rest.is_empty() {
            let _ = on_text(&rest);
        }
        Ok(Generation {
            tokens,
            prompt_tokens: prompt.len(),
            prefill,
            decode: start.elapsed() - prefill,
            decode_steps,
        })
    }
}
