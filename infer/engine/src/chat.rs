//! A conversation with a model, one turn after the other.
//!
//! In: what the user says; out: the answer's text as it comes. The whole conversation goes through the model's chat
//! template for every turn, but what the keys and values already hold of it is not computed again.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeOptions, Decoding, End, Token};
use crate::decoder::Session;
use crate::generate::decode_text;
use crate::model::Model;
use crate::sampling::Sampling;
use crate::speculate::{Speculated, Speculation};
use crate::template::{Input, Template};
use retort_format::{Error, Result};

/// Tokens of a prompt between two looks at whether to go on.
const CHUNK: usize = 128;
/// Bytes of a conversation's file.
const MAX_FILE: u64 = 64 << 20;

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A conversation so far, and what the model holds of it.
#[derive(Debug)]
pub struct Conversation<'m> {
    model: &'m Model,
    template: Template,
    session: Session<'m>,
    /// The tokens that the session has taken in.
    taken: Vec<u32>,
    messages: Vec<Message>,
    speculation: &'m Speculation,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The model ended its turn.
    Turn,
    /// The answer reached the most tokens that it may have, or the context is full.
    Length,
    /// The caller had enough.
    Stopped,
}

/// What an answer took.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
    /// Tokens of the conversation before it.
    pub prompt_tokens: usize,
    /// How many of them were computed before.
    pub reused_tokens: usize,
    /// Its tokens.
    pub tokens: usize,
    /// From the start to its first token.
    pub prefill: Duration,
    /// From there to its end.
    pub decode: Duration,
    /// How guessing ahead went.
    pub speculated: Speculated,
}

impl<'m> Conversation<'m> {
    /// An empty conversation with room for `context` tokens.
    ///
    /// # Errors
    ///
    /// Those of a file without a chat template, or of a context that does not fit the memory.
    pub fn new(model: &'m Model, context: usize) -> Result<Self> {
        Self::speculating(model, context, &Speculation::Off)
    }

    /// The same, with guesses that are checked ahead: answers come faster and stay the same.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn speculating(
        model: &'m Model,
        context: usize,
        speculation: &'m Speculation,
    ) -> Result<Self> {
        let trained = model.engine.config().context_length;
        if context > trained {
            let problem = format!(
                "a context of {context} exceeds the model's {trained}; choose a smaller one"
            );
            return Err(Error::Argument(problem));
        }
        Ok(Self {
            template: Template::from_gguf(model.engine.gguf(), &model.tokenizer)?,
            session: model.engine.session(context)?,
            model,
            taken: Vec::new(),
            messages: Vec::new(),
            speculation,
        })
    }

    /// The turns so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Goes on from `messages` instead.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Forgets every turn but the system message.
    pub fn reset(&mut self) {
        self.messages.retain(|message| message.role == "system");
    }

    /// Sets the system message; none if `text` is empty.
    pub fn set_system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        if !text.is_empty() {
            self.messages.insert(0, message("system", text));
        }
    }

    /// Answers `text` with up to `max` tokens, handing the answer on as it comes; what `on_text` is given may be
    /// empty, while the prompt is read. An answer that is stopped stays in the conversation as far as it came; if there
    /// is nothing of it, `text` does not stay either.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the template refuses, or the context has no room; the conversation is as before.
    pub fn reply(
        &mut self,
        text: &str,
        max: usize,
        sampling: &Sampling,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply> {
        sampling.validate().map_err(Error::Argument)?;
        self.messages.push(message("user", text));
        let reply = self.answer(max, sampling, on_text);
        match &reply {
            Ok(reply) if reply.tokens > 0 || reply.ended == Ended::Turn => {
                self.messages.push(message("assistant", &reply.text));
            }
            _ => {
                self.messages.pop();
            }
        }
        reply
    }

    fn answer(
        &mut self,
        max: usize,
        sampling: &Sampling,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Reply> {
        let start = Instant::now();
        let prompt = self.prompt()?;
        let context = self.session.context();
        let room = context.saturating_sub(prompt.len());
        if room == 0 {
            return Err(Error::Argument(format!(
                "the conversation has {} tokens and the context {context}; \
                 begin anew with /reset or choose a larger context",
                prompt.len()
            )));
        }
        let common = self.taken.iter().zip(&prompt).take_while(|(a, b)| a == b);
        // the last token goes in again, for its logits
        let reused = common.count().min(prompt.len() - 1);
        self.session.truncate(reused);
        self.taken.truncate(reused);
        let mut reply = Reply {
            text: String::new(),
            ended: Ended::Length,
            prompt_tokens: prompt.len(),
            reused_tokens: reused,
            tokens: 0,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            speculated: Speculated::default(),
        };
        let options = DecodeOptions::new(max.min(room), sampling);
        let drafter = self.speculation.drafter(self.model, context)?;
        let mut decoding = Decoding::new(&prompt, options, drafter)?;
        for chunk in prompt[reused..].chunks(CHUNK) {
            if on_text("").is_break() {
                reply.ended = Ended::Stopped;
                return Ok(reply);
            }
            self.take(chunk)?;
        }
        let (model, mut stopped) = (self.model, false);
        let on_token = |token: Option<&Token>, text: &str| {
            reply.text += text;
            let flow = on_text(text);
            stopped |= token.is_some() && flow.is_break();
            flow
        };
        let session = &mut self.session;
        let decoded = decode_text(model, session, &mut decoding, start, false, on_token);
        let held = self.session.len().min(decoding.text().len());
        self.taken = decoding.text()[..held].to_vec();
        let decoded = decoded?;
        reply.ended = match decoding.end() {
            _ if stopped => Ended::Stopped,
            Some(End::Stop) => Ended::Turn,
            _ => Ended::Length,
        };
        reply.tokens = decoded.tokens.len();
        reply.speculated = decoded.speculated;
        (reply.prefill, reply.decode) = (decoded.prefill, decoded.decode);
        Ok(reply)
    }

    /// Takes `tokens` in, and notes which.
    fn take(&mut self, tokens: &[u32]) -> Result<()> {
        self.session.take_in(tokens)?;
        self.taken.extend_from_slice(tokens);
        Ok(())
    }

    /// The ids of the conversation, up to where the answer begins.
    fn prompt(&self) -> Result<Vec<u32>> {
        let tokenizer = &self.model.tokenizer;
        let path = self.model.engine.gguf().path();
        let guard = tokenizer.guard();
        let messages: Vec<_> = (self.messages.iter())
            .map(|m| serde_json::json!({"role": m.role, "content": guard.text(&m.content)}))
            .collect();
        let text = self.template.render(&Input {
            messages: &messages,
            add_generation_prompt: true,
            ..Input::default()
        });
        let text = text.map_err(|error| Error::Argument(error.to_string()))?;
        let ids = tokenizer.encode_guarded(&text);
        let ids = ids.map_err(|problem| Error::tokenizer(path, problem))?;
        if ids.is_empty() {
            Err(Error::Argument(
                "the model's chat template wrote nothing".into(),
            ))
        } else {
            Ok(ids)
        }
    }

    /// Writes the conversation as JSON, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let file = ConversationFile {
            messages: self.messages.clone(),
        };
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| Error::Argument(format!("the conversation is no JSON: {error}")))?;
        retort_files::write(path, format!("{text}\n").as_bytes()).map_err(Error::io(path))
    }

    /// Goes on from a conversation that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Format`] for a file of another kind.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
        if size > MAX_FILE {
            let problem = format!("{size} bytes are no conversation; at most {MAX_FILE} are read");
            return Err(Error::format(path, problem));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let file: ConversationFile = serde_json::from_str(&text)
            .map_err(|error| Error::format(path, format!("this is no conversation: {error}")))?;
        self.messages = file.messages;
        Ok(())
    }
}

/// A conversation's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConversationFile {
    messages: Vec<Message>,
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
    }
}
