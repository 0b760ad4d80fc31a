//! A model file opened whole: the engine and the tokenizer.
//!
//! In: a GGUF file; out: a [`Model`], and the token ids of prompts.

use std::path::Path;

use crate::decoder::{Engine, EngineSettings, KvType};
use crate::tokenizer::Tokenizer;
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

impl Model {
    /// Opens the GGUF file at `path`, to be run with default settings.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, EngineSettings::new(None, false, KvType::default())?)
    }

    /// Opens the GGUF file at `path`.
    pub fn open_with(path: &Path, settings: EngineSettings) -> Result<Self> {
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
}
