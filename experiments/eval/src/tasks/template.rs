//! Templates and expressions of task files: Jinja2 by `minijinja`, over a row's columns.
//!
//! A template is text with `{{ expression }}`; an expression alone gives a value. Names are the
//! row's columns, and `row` is all of them (`row["Best Answer"]`). A name that is no column is an
//! error. Two filters are added to minijinja's: `regex_replace(pattern, replacement)`, in which `$1`
//! is the first group, and `index_of(value)`, the position in a list. Instructions and results are
//! bounded.

use std::collections::HashMap;
use std::sync::Mutex;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use regex::Regex;
use serde_json::Map;

/// Most instructions of a template: a prompt takes thousands of times fewer.
const FUEL: u64 = 1_000_000;

/// Most texts of a row: questions have far fewer answers.
const MOST_TEXTS: usize = 10_000;

/// Columns by name, as they were read.
pub(super) type Row = Map<String, serde_json::Value>;

/// The environment that runs templates.
pub(super) struct Templates {
    env: Environment<'static>,
}

impl Templates {
    pub(super) fn new() -> Self {
        let mut env = Environment::new();
        env.set_fuel(Some(FUEL));
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_keep_trailing_newline(true);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        let known: Mutex<HashMap<String, Regex>> = Mutex::default();
        env.add_filter(
            "regex_replace",
            move |text: String, pattern: String, replacement: String| {
                // A poisoned map is a whole one: nothing panics while it is changed.
                let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
                let regex = match known.get(&pattern) {
                    Some(regex) => regex.clone(),
                    None => {
                        let regex = Regex::new(&pattern).map_err(|e| invalid(e.to_string()))?;
                        known.insert(pattern, regex.clone());
                        regex
                    }
                };
                Ok::<_, minijinja::Error>(regex.replace_all(&text, replacement).into_owned())
            },
        );
        env.add_filter("index_of", |list: Value, value: Value| {
            if value.is_undefined() {
                return Err(invalid(
                    "what index_of looks for is undefined; name a column of the row".into(),
                ));
            }
            let place = list.try_iter()?.position(|item| item == value);
            place.ok_or_else(|| {
                let list: String = list.to_string().chars().take(100).collect();
                invalid(format!("{value} is not in {list}"))
            })
        });
        Self { env }
    }

    /// Parses a template; the error says what is wrong.
    pub(super) fn check_text(&self, source: &str) -> Result<(), String> {
        // Syntax depends on no setting, so a new environment does.
        let env = Environment::new();
        env.template_from_str(source).map(|_| ()).map_err(one_line)
    }

    /// Parses an expression; the error says what is wrong.
    pub(super) fn check_value(&self, source: &str) -> Result<(), String> {
        let parsed = self.env.compile_expression_owned(source.to_owned());
        parsed.map(|_| ()).map_err(one_line)
    }

    /// The text that `source` gives for `row`.
    pub(super) fn text(&self, source: &str, row: &Value) -> Result<String, String> {
        self.env.render_str(source, row).map_err(one_line)
    }

    /// The value that `source` gives for `row`.
    pub(super) fn value(&self, source: &str, row: &Value) -> Result<Value, String> {
        let expression = self.env.compile_expression_owned(source.to_owned());
        let value = expression.and_then(|e| e.eval(row)).map_err(one_line)?;
        if value.is_undefined() {
            return Err("is undefined; name a column of the row".into());
        }
        Ok(value)
    }

    /// The texts that `source` gives for `row`.
    pub(super) fn texts(&self, source: &str, row: &Value) -> Result<Vec<String>, String> {
        let value = self.value(source, row)?;
        if value.as_str().is_some() {
            return Err("is a text; must be a list of texts".into());
        }
        let items = value.try_iter().map_err(one_line)?;
        let items = items.take(MOST_TEXTS + 1);
        let texts: Vec<String> = items.map(|item| text_of(&item)).collect();
        match texts.len() {
            0 => Err("is empty; must be a list of texts".into()),
            1..=MOST_TEXTS => Ok(texts),
            _ => Err(format!("has more than {MOST_TEXTS} texts")),
        }
    }
}

/// The variables of templates: the columns of `row`, and `row` itself.
pub(super) fn context(row: &Row) -> Value {
    let whole = Value::from_serialize(row);
    let columns = row
        .iter()
        .map(|(name, value)| (name.clone(), Value::from_serialize(value)));
    let all = columns.chain([("row".to_owned(), whole)]);
    all.collect::<std::collections::BTreeMap<_, _>>().into()
}

/// A value as text: a text as it is, the rest as printed.
pub(super) fn text_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn invalid(reason: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason.replace('\n', " "))
}

/// An error on one line.
fn one_line(error: minijinja::Error) -> String {
    let detail = error.detail().unwrap_or_default();
    if detail.is_empty() {
        error.kind().to_string()
    } else {
        format!("{}: {}", error.kind(), detail.replace('\n', " "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Value {
        let row = json!({
            "q": "Why? <b>", "label": "B", "n": 2, "Best Answer": "none",
            "choices": {"text": ["x [y] z", "w"], "label": ["A", "B"]},
        });
        context(row.as_object().unwrap())
    }

    #[test]
    fn template_text_is_neither_escaped_nor_trimmed() {
        let templates = Templates::new();
        let text = |source| templates.text(source, &row());
        assert_eq!(text("Q: {{ q }}\n").unwrap(), "Q: Why? <b>\n");
        assert_eq!(text("{{ row['Best Answer'] }}{{ n }}").unwrap(), "none2");
        assert!(text("{{ missing }}").unwrap_err().contains("undefined"));
    }

    #[test]
    fn expressions_give_lists_and_positions() {
        let templates = Templates::new();
        let value = |source| templates.value(source, &row());
        assert_eq!(
            value("choices.label | index_of(label)").unwrap().as_usize(),
            Some(1)
        );
        assert!(
            value("choices.label | index_of('E')")
                .unwrap_err()
                .contains("E is not in")
        );
        assert!(value("missing").is_err() && value("choices.missing").is_err());
        assert!(
            value("choices.label | index_of(lable)")
                .unwrap_err()
                .contains("name a column")
        );
        let texts = |source| templates.texts(source, &row());
        let cleaned = r"choices.text | map('regex_replace', '\\[(.*?)\\]', '<$1>')";
        assert_eq!(texts(cleaned).unwrap(), ["x <y> z", "w"]);
        assert_eq!(texts("[q, n]").unwrap(), ["Why? <b>", "2"]);
        assert_eq!(texts("(q | split(' '))[:-1]").unwrap(), ["Why?"]);
        assert!(texts("q").unwrap_err().contains("must be a list"));
        assert!(texts("[]").unwrap_err().contains("is empty"));
        assert!(
            texts("['x'] * 100000000000")
                .unwrap_err()
                .contains("more than")
        );
        assert!(
            texts("q | regex_replace('(', '')")
                .unwrap_err()
                .contains("unclosed")
        );
    }

    #[test]
    fn an_endless_template_runs_out_of_fuel() {
        let templates = Templates::new();
        let source = "{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}";
        assert!(templates.text(source, &row()).unwrap_err().contains("fuel"));
    }
}
