//! Text from outside inside a prompt whose control tokens are recognised.
//!
//! A chat template writes control tokens as text, and the whole prompt is then read with them recognised. Where a
//! message spells one out, it would be taken for the template's own. So what comes from outside goes through
//! [`Guard::text`] first: a mark inside each such spelling, which [`Tokenizer::encode_guarded`] takes out again after
//! the control tokens have been found. The mark is U+FDD0, which Unicode reserves for the inside of programs; it is
//! taken out of what comes from outside.

use serde_json::Value;

use super::gguf_tokenizer::{TextPart, Tokenizer};

/// The mark.
pub(crate) const MARK: char = '\u{FDD0}';

/// A whole number that is too long for a type of numbers, as a text that stands for it in what templates are given:
/// `tojson` writes it as the number that it is.
///
/// ```
/// let text = retort_engine::tokenizer::long_integer("12345678901234567890123").unwrap();
/// assert!(text.ends_with("12345678901234567890123"));
/// assert_eq!(retort_engine::tokenizer::long_integer("123"), None);
/// ```
pub fn long_integer(number: &str) -> Option<String> {
    let short = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    (is_integer(number) && !short).then(|| format!("{MARK}{number}"))
}

/// The number that `text` stands for, if [`long_integer`] made it.
pub(crate) fn as_long_integer(text: &str) -> Option<&str> {
    text.strip_prefix(MARK).filter(|number| is_integer(number))
}

/// Whether `text` is a whole number as JSON writes it.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Keeps text from spelling a tokenizer's control tokens.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'t>(&'t Tokenizer);

impl Guard<'_> {
    /// `text` with a mark inside each spelling of a control token.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.replace(MARK, "");
        for (whole, _, control) in &self.0.whole {
            if *control && text.contains(whole.as_str()) {
                let first = whole.chars().next().map_or(0, char::len_utf8);
                let marked = format!("{}{MARK}{}", &whole[..first], &whole[first..]);
                text = text.replace(whole.as_str(), &marked);
            }
        }
        text
    }

    /// The same for every text inside `value`, names of fields included.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if as_long_integer(text).is_some() => value.clone(),
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.value(value)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (self.text(name), self.value(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

impl Tokenizer {
    /// Marks what comes from outside.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// The ids of a text whose parts from outside went through [`Guard::text`]: control tokens elsewhere are
    /// recognised. BOS is not added.
    ///
    /// # Errors
    ///
    /// One line, if the text cannot be tokenized.
    pub fn encode_guarded(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        for piece in self.split_whole(text, true) {
            match piece {
                TextPart::Token(id) => ids.push(id),
                TextPart::Text(text) => ids.extend(self.encode(&text.replace(MARK, ""), false)?),
            }
        }
        Ok(ids)
    }
}
