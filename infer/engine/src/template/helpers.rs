//! What chat templates call: the functions and the filter that `transformers` gives them.

use std::fmt::Write;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// What the detail of an error begins with that a template raised itself.
pub(super) const REFUSED: &str = "raise_exception: ";
/// Spaces that `tojson` indents by at most.
const MAX_INDENT: usize = 16;

/// `raise_exception(message)`: the template does not take such a conversation.
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    let detail = format!("{REFUSED}{message}");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// `strftime_now(format)`: the local time.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(format)).map_err(|_| {
        let detail = format!("strftime_now: {format:?} is no format of a time");
        Error::new(ErrorKind::InvalidOperation, detail)
    })?;
    Ok(text)
}

/// `value | tojson(indent=n)`: JSON spaced as Python spaces it, with nothing escaped for HTML.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let spaces = " ".repeat(indent.unwrap_or(0).min(MAX_INDENT));
    let mut bytes = Vec::new();
    let written = match indent {
        Some(_) => {
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    let bad = |detail: String| Error::new(ErrorKind::BadSerialization, detail);
    written.map_err(|error| bad(format!("tojson: {error}")))?;
    String::from_utf8(bytes).map_err(|error| bad(format!("tojson: {error}")))
}

/// A space after every comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Makes comments of `{% generation %}` and `{% endgeneration %}`, which mark for training what the assistant said
/// and are no part of Jinja.
pub(super) fn without_generation_tags(source: &str) -> String {
    let (mut result, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|end| start + end) else {
            break;
        };
        let inside = &rest[start + 2..end];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let (before, tag) = (&rest[..start], &rest[start..end + 2]);
        result.push_str(before);
        match word {
            "generation" | "endgeneration" => {
                result.push_str("{#");
                result.push_str(inside);
                result.push_str("#}");
            }
            _ => result.push_str(tag),
        }
        rest = &rest[end + 2..];
    }
    result.push_str(rest);
    result
}
