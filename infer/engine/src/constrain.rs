//! Answers held to a form: a JSON schema, a grammar or a regular expression.
//!
//! In: a form and, token by token, the answer; out: which tokens may come next. `llguidance` does the parsing (Earley,
//! over bytes, with the tokenizer's vocabulary as a trie). A form comes from outside: its size and depth are limited
//! before it is compiled, and the work and memory of compiling and following it are limited too. What goes past a
//! limit is an error, never an answer without the form.

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use crate::tokenizer::Tokenizer;

/// Bytes of a schema or grammar.
const MAX_BYTES: usize = 64 << 10;
/// Arrays and objects of a schema inside each other.
const MAX_DEPTH: usize = 32;

/// White space between two parts of JSON: a space, or a line's end and the next line's indent. JSON allows any amount,
/// and a small model goes on with it until its answer is cut.
const WHITE_SPACE: &str = r"\x20|\x20?\x0D?\x0A[\x20\x09]{0,16}";

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// A grammar in llguidance's form of Lark.
    Lark(String),
    /// A regular expression for the whole answer.
    Regex(String),
}

/// Compiles forms for one tokenizer.
pub struct Forms {
    factory: ParserFactory,
}

/// A form being followed. Cheap beside the model: tens of microseconds a token for usual schemas.
pub struct Constraint {
    matcher: Matcher,
}

impl Forms {
    /// For `tokenizer`.
    ///
    /// # Errors
    ///
    /// One line, if the tokenizer has no end of text.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let n = tokenizer.vocab_size() as u32;
        let ends: Vec<u32> = (0..n)
            .filter(|&id| tokenizer.is_end_of_generation(id))
            .collect();
        let Some(&eos) = ends.first() else {
            return Err(
                "the model has no end of text, so an answer cannot be held to a form".into(),
            );
        };
        let word = |id: u32| {
            let bytes = tokenizer.bytes(id);
            match tokenizer.is_control(id) || ends.contains(&id) {
                // no byte of any text
                true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
                false => bytes.to_vec(),
            }
        };
        let words: Vec<_> = (0..n).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(n, eos), &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| one_line(&error.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            initial_lexer_fuel: 500_000,
            max_lexer_states: 50_000,
            max_grammar_size: 100_000,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory })
    }

    /// A constraint that begins with the answer's first token.
    ///
    /// # Errors
    ///
    /// One line, if the form is too large, cannot be read, or goes past a limit.
    pub fn compile(&self, form: &Form) -> Result<Constraint, String> {
        let grammar = match form {
            Form::JsonObject => json_grammar(json!({"type": "object"})),
            Form::JsonSchema(schema) => {
                check_size("the schema", schema.to_string().len())?;
                if depth(schema, MAX_DEPTH).is_none() {
                    return Err(format!("the schema is nested deeper than {MAX_DEPTH}"));
                }
                json_grammar(schema.clone())
            }
            Form::Lark(text) => {
                check_size("the grammar", text.len())?;
                TopLevelGrammar::from_lark(text.clone())
            }
            Form::Regex(text) => {
                check_size("the expression", text.len())?;
                TopLevelGrammar::from_regex(text)
            }
        };
        let parser = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.factory.create_parser(grammar)
        }));
        let parser = parser.map_err(|error| one_line(&error.to_string()))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(error) => Err(one_line(&error)),
            None => Ok(Constraint { matcher }),
        }
    }
}

impl Constraint {
    /// The tokens that may come next: ends of text alone once the form is complete.
    ///
    /// # Errors
    ///
    /// One line, if a limit is exceeded; the answer must end.
    pub fn allowed(&mut self) -> Result<Allowed, String> {
        let set = self.matcher.compute_mask_or_eos();
        set.map(Allowed)
            .map_err(|error| one_line(&error.to_string()))
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    ///
    /// One line, if it may not come here; the answer must end.
    pub fn take(&mut self, token: u32) -> Result<(), String> {
        let taken = self.matcher.consume_token(token);
        taken.map_err(|error| one_line(&error.to_string()))
    }

    /// Whether nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// A set of tokens.
pub struct Allowed(SimpleVob);

impl Allowed {
    /// Whether `token` is among them.
    pub fn has(&self, token: u32) -> bool {
        (token as usize) < self.0.len() && self.0.is_allowed(token)
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forms")
    }
}

/// The grammar of `schema` with [`WHITE_SPACE`], unless the schema itself says how much there may be.
fn json_grammar(mut schema: Value) -> TopLevelGrammar {
    const OPTIONS: &str = "x-guidance";
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(schema) = schema.as_object_mut() {
        let options = schema.entry(OPTIONS).or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            let flexible = options.get("whitespace_flexible") != Some(&Value::Bool(false));
            let given = options
                .get("whitespace_pattern")
                .is_some_and(|p| !p.is_null());
            if flexible && !given {
                options.insert("whitespace_pattern".into(), WHITE_SPACE.into());
            }
        }
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn check_size(what: &str, bytes: usize) -> Result<(), String> {
    if bytes > MAX_BYTES {
        Err(format!("{what} has {bytes} bytes, more than {MAX_BYTES}"))
    } else {
        Ok(())
    }
}

/// How deep `value` is nested; none if deeper than `most`.
fn depth(value: &Value, most: usize) -> Option<usize> {
    let inner = |value| depth(value, most.checked_sub(1)?);
    let deepest = match value {
        Value::Array(values) => values
            .iter()
            .map(inner)
            .try_fold(0, |a, b| Some(a.max(b?)))?,
        Value::Object(fields) => fields
            .values()
            .map(inner)
            .try_fold(0, |a, b| Some(a.max(b?)))?,
        _ => return Some(0),
    };
    (deepest < most).then_some(deepest + 1)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
