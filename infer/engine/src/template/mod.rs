//! The model's own chat template: messages in, the prompt's text out.
//!
//! A GGUF file carries the template that its model was trained with as `tokenizer.chat_template`, in Jinja as the
//! `transformers` library renders it: blocks trimmed and stripped, loop controls, Python's string and dict methods,
//! and the helpers `raise_exception`, `strftime_now` and `tojson` (see `helpers`). Variables: `messages`, `tools`
//! (none where there are none), `add_generation_prompt`, `bos_token`, `eos_token`, and what the caller adds.
//!
//! A template is a program from outside. It sees nothing but these variables and the clock; its steps, its depth and
//! the length of what it writes are limited. What the messages say cannot become a control token: see
//! [`Guard`](crate::tokenizer::Guard).

mod helpers;
#[cfg(test)]
mod tests;

use std::io::Write;

use minijinja::{AutoEscape, Environment};
use serde_json::{Map, Value};

use crate::tokenizer::Tokenizer;
use retort_format::Error;
use retort_format::gguf::Gguf;

/// Where a GGUF file has its template.
const KEY: &str = "tokenizer.chat_template";
/// Steps of the template's program; about a quarter of a second.
const FUEL: u64 = 5_000_000;
/// Macros and includes inside each other.
const DEPTH: usize = 64;
/// Bytes that a template may write.
const MAX_OUTPUT: usize = 8 << 20;
/// Bytes that a template may be long.
const MAX_SOURCE: usize = 1 << 20;

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    source: String,
}

/// Why a conversation could not be rendered. The message is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template does not take such a conversation, and says why.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template went past a limit.
    #[error("the model's chat template exceeds its limits: {0}")]
    Limit(String),
    /// The template is at fault, or met something it was not written for.
    #[error("the model's chat template failed: {0}")]
    Failed(String),
}

/// What a template is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// The messages, objects with at least `role` and `content`.
    pub messages: &'a [Value],
    /// Descriptions of the tools that the model may call.
    pub tools: Option<&'a Value>,
    /// Whether the text should end where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Further variables; those above take precedence.
    pub more: Option<&'a Map<String, Value>>,
}

impl Template {
    /// The template inside `gguf`.
    ///
    /// # Errors
    ///
    /// [`Error::Metadata`] if the file has none, or one that cannot be read.
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> retort_format::Result<Self> {
        let error = |problem: String| Error::metadata(gguf.path(), KEY, problem);
        if gguf.get(KEY).is_none() {
            let problem = "there is none, so this model has no form of conversation; \
                           continue plain text instead, with `retort-edge run` or /v1/completions";
            return Err(error(problem.into()));
        }
        let text = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id])).unwrap_or_default();
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        Self::new(gguf.str(KEY)?, &bos, &eos).map_err(error)
    }

    /// The template with this `source`, for a model whose texts begin and end with the tokens `bos` and `eos`.
    ///
    /// # Errors
    ///
    /// One line that says where the source cannot be read.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!(
                "it has {} bytes, more than {MAX_SOURCE}",
                source.len()
            ));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", helpers::raise_exception);
        environment.add_function("strftime_now", helpers::strftime_now);
        environment.add_filter("tojson", helpers::tojson);
        environment
            .add_template_owned("chat", helpers::without_generation_tags(source))
            .map_err(|error| format!("it cannot be read: {}", one_line(&error)))?;
        Ok(Self {
            environment,
            bos: bos.into(),
            eos: eos.into(),
            source: source.into(),
        })
    }

    /// Whether the template itself mentions `text`, which says what form it has the model answer in.
    pub fn mentions(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// The text of a conversation.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template refuses the conversation, goes past a limit, or fails.
    pub fn render(&self, input: &Input) -> Result<String, TemplateError> {
        let mut variables = input.more.cloned().unwrap_or_default();
        let own = [
            ("messages", Value::from(input.messages)),
            ("tools", input.tools.cloned().unwrap_or(Value::Null)),
            ("add_generation_prompt", input.add_generation_prompt.into()),
            ("bos_token", self.bos.as_str().into()),
            ("eos_token", self.eos.as_str().into()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let template = self
            .environment
            .get_template("chat")
            .map_err(|error| TemplateError::Failed(one_line(&error)))?;
        let mut output = Bounded::default();
        let rendered = template.render_captured_to(variables, &mut output);
        if output.full {
            let problem = format!("more than {MAX_OUTPUT} bytes of text");
            return Err(TemplateError::Limit(problem));
        }
        match rendered {
            Ok(_) => String::from_utf8(output.bytes)
                .map_err(|_| TemplateError::Failed("it wrote no text".into())),
            Err(error) => Err(classify(&error)),
        }
    }
}

/// Collects a template's output up to the limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.bytes.len() {
            self.full = true;
            return Err(std::io::Error::other("the output is full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn classify(error: &minijinja::Error) -> TemplateError {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error
            .detail()
            .and_then(|d| d.strip_prefix(helpers::REFUSED))
        {
            let line = refusal.split_whitespace().collect::<Vec<_>>().join(" ");
            return TemplateError::Refused(line);
        }
        next = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    }
    match error.kind() {
        minijinja::ErrorKind::OutOfFuel => TemplateError::Limit(format!("more than {FUEL} steps")),
        _ => TemplateError::Failed(one_line(error)),
    }
}

/// An error and its line in the template.
fn one_line(error: &minijinja::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
