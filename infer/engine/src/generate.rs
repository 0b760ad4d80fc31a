//! Text that follows a prompt.
//!
//! In: a prompt's token ids; out: text as it becomes certain, and how long prefill and decoding
//! took. Generation ends at the model's end-of-text or end-of-turn token, at the asked number of
//! tokens, or when the caller has had enough.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::decode::{DecodeOptions, Decoding, Token, decode};
use crate::decoder::Session;
use crate::model::Model;
use crate::sampling::Sampling;
use crate::speculate::{Drafter, Speculated};
use crate::tokenizer::Utf8Stream;
use retort_format::{Error, Result};

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
    pub speculated: Speculated,
}

impl Model {
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

    /// Generates up to `n` tokens after the ids `prompt`.
    pub fn generate_from(
        &self,
        prompt: &[u32],
        n: usize,
        sampling: &Sampling,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let options = DecodeOptions::new(n, sampling);
        self.generate_as(prompt, options, None, |_, text| {
            if text.is_empty() {
                ControlFlow::Continue(())
            } else {
                on_text(text)
            }
        })
    }

    /// Answers the ids `prompt` as `options` say, faster where `drafter` guesses well. `on_token` gets every token of
    /// the answer with the text that became certain by it, and at last text that no token completed.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for options outside their ranges, a prompt and answer longer than the model's context, or a
    /// constraint that cannot be followed.
    pub fn generate_as(
        &self,
        prompt: &[u32],
        options: DecodeOptions,
        drafter: Option<Box<dyn Drafter + '_>>,
        on_token: impl FnMut(Option<&Token>, &str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let n = options.max_tokens;
        let needed = prompt.len().saturating_add(n);
        let trained = self.engine.config().context_length;
        if needed > trained {
            return Err(Error::Argument(format!(
                "{} prompt tokens and {n} more exceed the model's context of {trained}; \
                 shorten the prompt or generate fewer",
                prompt.len()
            )));
        }
        let mut decoding = Decoding::new(prompt, options, drafter)?;
        let mut session = self.engine.session(needed)?;
        let start = Instant::now();
        session.take_in(prompt)?;
        decode_text(self, &mut session, &mut decoding, start, true, on_token)
    }
}

/// Goes on with `decoding` as [`decode`] does, from a prompt that was begun at `start`. `on_token` gets every token of
/// the answer with the text that became certain by it, and at last text that no token completed; `control` tokens have
/// a text or not.
pub(crate) fn decode_text(
    model: &Model,
    session: &mut Session,
    decoding: &mut Decoding,
    start: Instant,
    control: bool,
    mut on_token: impl FnMut(Option<&Token>, &str) -> ControlFlow<()>,
) -> Result<Generation> {
    let prompt_tokens = decoding.text().len();
    let (mut prefill, mut stream) = (None, Utf8Stream::new());
    let mut tokens = Vec::new();
    let decode_steps = decode(model, session, decoding, |token| {
        prefill.get_or_insert_with(|| start.elapsed());
        let id = token.logprob.id;
        if token.is_end {
            return ControlFlow::Continue(());
        }
        tokens.push(id);
        let text = if control || !model.tokenizer.is_control(id) {
            stream.push(model.tokenizer.bytes(id))
        } else {
            String::new()
        };
        on_token(Some(token), &text)
    })?;
    let rest = stream.finish();
    if !rest.is_empty() {
        let _ = on_token(None, &rest);
    }
    let prefill = prefill.unwrap_or_else(|| start.elapsed());
    Ok(Generation {
        tokens,
        prompt_tokens,
        prefill,
        decode: start.elapsed() - prefill,
        decode_steps,
        speculated: decoding.speculated(),
    })
}
