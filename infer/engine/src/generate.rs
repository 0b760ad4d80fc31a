//! A model file opened whole, and text that follows a prompt.
//!
//! In: a prompt's token ids; out: text as it becomes certain, and how long prefill and decoding
//! took. Generation ends at the model's end-of-text or end-of-turn token, at the asked number of
//! tokens, or when the caller has had enough.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::decoder::{Engine, KvType, Settings};
use crate::sampling::{Sampler, Sampling};
use crate::speculate::{Drafter, Guessed, MAX_GUESSES};
use crate::tokenizer::{Tokenizer, Utf8Stream};
use retort_format::gguf::Gguf;
use retort_format::{Error, Result};

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
    /// Steps of decoding: passes through the model after the prompt's.
    pub decode_steps: usize,
    /// How guessing ahead went.
    pub guessed: Guessed,
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
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        self.generate_speculating(prompt, n, sampling, None, on_text)
    }

    /// The same, faster where `drafter` guesses well: see [`crate::speculate`].
    pub fn generate_speculating(
        &self,
        prompt: &[u32],
        n: usize,
        sampling: &Sampling,
        mut drafter: Option<&mut dyn Drafter>,
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
        sampler.prompt(prompt);
        let mut session = self.engine.session(needed)?;
        let mut stream = Utf8Stream::new();
        // the whole sequence, and how much of it the session has taken in
        let mut text = prompt.to_vec();
        let (start, mut decode_steps) = (Instant::now(), 0);
        let mut guessed = Guessed::default();
        let mut next = sampler.sample(session.forward(prompt)?);
        let prefill = start.elapsed();
        // chosen tokens of the last step that are not out yet, the first one next
        let mut chosen = VecDeque::new();
        while text.len() < needed && !self.tokenizer.is_end_of_generation(next) {
            text.push(next);
            let bytes = stream.push(self.tokenizer.bytes(next));
            if !bytes.is_empty() && on_text(&bytes).is_break() {
                break;
            }
            if text.len() == needed {
                break;
            }
            if chosen.is_empty() {
                let taken = session.len();
                // the last choice follows the last token taken in, so n guesses give n + 1 choices
                let room = (needed - text.len() - 1).min(MAX_GUESSES);
                let guesses = match &mut drafter {
                    Some(drafter) if room > 0 => drafter.draft(&text, room)?,
                    _ => Vec::new(),
                };
                let guesses = self.plausible(guesses);
                let mut step = vec![next];
                step.extend_from_slice(&guesses);
                let vocab_size = self.engine.config().vocab_size;
                let mut right = true;
                session.forward_all(&step, 0, |first, rows| {
                    for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
                        if right {
                            let choice = sampler.sample(logits);
                            chosen.push_back(choice);
                            right = guesses.get(first + i) == Some(&choice);
                        }
                    }
                })?;
                session.truncate(taken + chosen.len());
                guessed.drafted += guesses.len();
                guessed.accepted += chosen.len() - 1;
                decode_steps += 1;
            }
            let Some(choice) = chosen.pop_front() else {
                break;
            };
            next = choice;
        }
        let rest = stream.finish();
        if !rest.is_empty() {
            let _ = on_text(&rest);
        }
        Ok(Generation {
            tokens: text.split_off(prompt.len()),
            prompt_tokens: prompt.len(),
            prefill,
            decode: start.elapsed() - prefill,
            decode_steps,
            guessed,
        })
    }

    /// The guesses up to the first that the model does not know or that would end the text.
    fn plausible(&self, mut guesses: Vec<u32>) -> Vec<u32> {
        let known = self.engine.config().vocab_size;
        let end = guesses.iter().position(|&guess| {
            guess as usize >= known || self.tokenizer.is_end_of_generation(guess)
        });
        guesses.truncate(end.unwrap_or(guesses.len()));
        guesses
    }
}
