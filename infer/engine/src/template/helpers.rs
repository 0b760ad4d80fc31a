//! What chat templates call: the functions and the filter that `transformers` gives them.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::tokenizer::{MARK, as_long_integer};

/// What the detail of an error begins with that a template raised itself.
pub(super) const REFUSED: &str = "raise_exception: ";
/// Bytes that `tojson` indents a level by at most.
const MAX_INDENT: usize = 16;
/// Arrays and objects inside each other that `tojson` writes.
const MAX_DEPTH: usize = 128;

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

/// `value | tojson(ensure_ascii, indent, separators, sort_keys)`: JSON as Python's `json.dumps` writes it, which is what
/// `transformers` gives templates, with nothing escaped for HTML. An argument that it has not is an error.
pub(super) fn tojson(
    value: &Value,
    positional: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let mut out = String::new();
    JsonStyle::read(&positional, &named)?.write(value, 0, &mut out)?;
    Ok(out)
}

/// The arguments of `json.dumps`.
struct JsonStyle {
    ensure_ascii: bool,
    /// What a level is indented by; all on one line without.
    indent: Option<String>,
    /// What stands between elements, and after a key.
    separators: [String; 2],
    sort_keys: bool,
}

impl JsonStyle {
    fn read(positional: &[Value], named: &Kwargs) -> Result<Self, Error> {
        const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
        if positional.len() > NAMES.len() {
            let detail = format!("tojson takes {} arguments", NAMES.len());
            return Err(Error::new(ErrorKind::TooManyArguments, detail));
        }
        let mut given = [const { None }; NAMES.len()];
        for (index, name) in NAMES.into_iter().enumerate() {
            let by_name: Option<Value> = named.get(name)?;
            let by_place = positional.get(index).cloned();
            if by_name.is_some() && by_place.is_some() {
                return Err(wrong(format!("{name} is given twice")));
            }
            given[index] = (by_name.or(by_place)).filter(|v| !v.is_none() && !v.is_undefined());
        }
        named.assert_all_used()?;
        let [ensure_ascii, indent, separators, sort_keys] = given;
        let indent = indent.as_ref().map(indent_of).transpose()?;
        let separators = match &separators {
            Some(given) => separators_of(given)?,
            None if indent.is_some() => [",", ": "].map(String::from),
            None => [", ", ": "].map(String::from),
        };
        Ok(Self {
            ensure_ascii: ensure_ascii.is_some_and(|flag| flag.is_true()),
            indent,
            separators,
            sort_keys: sort_keys.is_some_and(|flag| flag.is_true()),
        })
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(wrong(format!(
                "the value is nested deeper than {MAX_DEPTH}"
            )));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let elements = value.try_iter()?.map(|element| (None, element));
                self.write_group(['[', ']'], elements, depth, out)?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let element = value.get_item(&key)?;
                    let name = match key.as_str() {
                        Some(name) => name.to_owned(),
                        None => {
                            let mut name = String::new();
                            self.write(&key, depth + 1, &mut name)?;
                            name
                        }
                    };
                    entries.push((Some(name), element));
                }
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.write_group(['{', '}'], entries.into_iter(), depth, out)?;
            }
            kind => return Err(wrong(format!("a value of type {kind} is no JSON"))),
        }
        Ok(())
    }

    /// Elements between brackets, with their keys where they have them.
    fn write_group(
        &self,
        [open, close]: [char; 2],
        elements: impl Iterator<Item = (Option<String>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let [between, after_key] = &self.separators;
        let new_line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(open);
        let mut empty = true;
        for (key, element) in elements {
            if !empty {
                out.push_str(between);
            }
            empty = false;
            new_line(out, depth + 1);
            if let Some(key) = key {
                self.write_string(&key, out);
                out.push_str(after_key);
            }
            self.write(&element, depth + 1, out)?;
        }
        if !empty {
            new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn write_string(&self, text: &str, out: &mut String) {
        if let Some(number) = as_long_integer(text) {
            out.push_str(number);
            return;
        }
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                // what keeps control tokens apart is taken out of the prompt later
                MARK => out.push(MARK),
                _ if character < ' ' || (self.ensure_ascii && character > '~') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

/// A number as Python writes it.
fn float(number: f64) -> String {
    if !number.is_finite() {
        let name = if number.is_nan() { "NaN" } else { "Infinity" };
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}{name}");
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = number.to_string();
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

/// What `indent` says: a number of spaces, or a text.
fn indent_of(indent: &Value) -> Result<String, Error> {
    let text = match (indent.as_i64(), indent.as_str()) {
        (Some(spaces), _) => {
            let spaces = usize::try_from(spaces.max(0)).unwrap_or(usize::MAX);
            " ".repeat(spaces.min(MAX_INDENT + 1))
        }
        (None, Some(text)) => text.to_owned(),
        (None, None) => return Err(wrong("indent is no number and no text".into())),
    };
    if text.len() > MAX_INDENT {
        return Err(wrong(format!(
            "indent is more than {MAX_INDENT} characters"
        )));
    }
    Ok(text)
}

/// What `separators` says: two texts.
fn separators_of(separators: &Value) -> Result<[String; 2], Error> {
    let texts = separators.try_iter()?;
    let texts: Option<Vec<String>> = texts.map(|text| text.as_str().map(str::to_owned)).collect();
    let pair = texts.and_then(|texts| texts.try_into().ok());
    pair.ok_or_else(|| wrong("separators must be two texts".into()))
}

fn wrong(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
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
