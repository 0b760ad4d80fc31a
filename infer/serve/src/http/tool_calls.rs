//! Tool calls in an answer's text, where the model writes them as Hermes and Qwen do (the form was
//! set by NousResearch/Hermes-Function-Calling):
//!
//! ```text
//! <tool_call>
//! {"name": "weather", "arguments": {"city": "Paris"}}
//! </tool_call>
//! ```
//!
//! In: text as it becomes certain. Out: the text that is no call, and the calls, each when it is
//! complete, with its arguments as the model wrote them but for blank space. What looks like a call
//! but is none, Qwen3-Coder's XML for instance, stays text to the letter. Blank space around calls
//! belongs to them.

use rand::random;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::stop_sequences::partial_match;

/// What a template that has the model write calls like this has in its source.
pub(super) const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A tool that the model wants to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolCall {
    id: String,
    name: String,
    /// JSON.
    arguments: String,
}

/// A call as the model writes it. Its arguments stay text: a number may have more digits than a
/// type of numbers.
#[derive(Deserialize)]
struct WrittenCall {
    name: String,
    arguments: Option<Box<RawValue>>,
    parameters: Option<Box<RawValue>>,
}

impl ToolCall {
    /// A call written between the tags, if it is one.
    fn parse(text: &str) -> Option<Self> {
        let call: WrittenCall = serde_json::from_str(text).ok()?;
        let arguments = match call.arguments.or(call.parameters) {
            None => "{}".to_owned(),
            // some write them as a text that holds JSON
            Some(text) if text.get().starts_with('"') => serde_json::from_str(text.get()).ok()?,
            Some(arguments) => arguments.get().to_owned(),
        };
        let is_object = arguments.trim_start().starts_with('{');
        if !is_object || serde_json::from_str::<IgnoredAny>(&arguments).is_err() {
            return None;
        }
        (!call.name.is_empty()).then(|| Self {
            id: format!("call_{:016x}", random::<u64>()),
            name: call.name,
            arguments: without_blank_space(&arguments),
        })
    }

    /// The call in the API's shape.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

/// JSON without the blank space outside its strings.
fn without_blank_space(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        (in_string, escaped) = match *c {
            _ if escaped => (in_string, false),
            '"' => (!in_string, false),
            '\\' => (in_string, in_string),
            _ => (in_string, false),
        };
        keep
    };
    json.chars().filter(keep).collect()
}

/// Takes calls out of an answer's text.
#[derive(Debug, Default)]
pub(super) struct ToolCallParser {
    /// Text that may be part of a call.
    pending: String,
    /// Whether there has been a call and no text since; blank space is left out then.
    after_call: bool,
}

impl ToolCallParser {
    /// What more text makes certain: text that is no call, and calls.
    pub fn push(&mut self, text: &str) -> (String, Vec<ToolCall>) {
        self.pending += text;
        let (mut out, mut calls) = (String::new(), Vec::new());
        while let Some(at) = self.pending.find(OPEN) {
            // all before the call but the blank space next to it is certain
            let before = self.pending[..at].trim_end().len();
            let Some(length) = self.pending[at..].find(CLOSE) else {
                out += &self.take(before);
                return (out, calls);
            };
            let end = at + length + CLOSE.len();
            match ToolCall::parse(&self.pending[at + OPEN.len()..at + length]) {
                Some(call) => {
                    out += &self.take(before);
                    self.pending.drain(..end - before);
                    self.after_call = true;
                    calls.push(call);
                }
                None => out += &self.take(end),
            }
        }
        // what may be the beginning of a call waits, and the blank space before it
        let start = partial_match(&self.pending, OPEN);
        out += &self.take(self.pending[..start].trim_end().len());
        (out, calls)
    }

    /// The rest. A call whose end is missing, as where that is a stop sequence, counts if it is
    /// whole.
    pub fn finish(&mut self) -> (String, Option<ToolCall>) {
        let mut text = std::mem::take(&mut self.pending);
        let mut call = None;
        if let Some(at) = text.find(OPEN) {
            call = ToolCall::parse(&text[at + OPEN.len()..]);
            if call.is_some() {
                text.truncate(text[..at].trim_end().len());
            }
        }
        (self.trim_after_call(text), call)
    }

    /// Takes `bytes` of what is pending.
    fn take(&mut self, bytes: usize) -> String {
        let rest = self.pending.split_off(bytes);
        let text = std::mem::replace(&mut self.pending, rest);
        self.trim_after_call(text)
    }

    /// A text without the blank space that follows a call.
    fn trim_after_call(&mut self, text: String) -> String {
        if !self.after_call {
            return text;
        }
        let rest = text.trim_start();
        self.after_call = rest.is_empty();
        rest.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text and calls of a text that comes whole, and letter by letter: the same.
    fn taken(text: &str) -> (String, Vec<(String, String)>) {
        let parsed = |pieces: Vec<&str>| {
            let (mut parser, mut out, mut all) =
                (ToolCallParser::default(), String::new(), Vec::new());
            for piece in pieces {
                let (text, calls) = parser.push(piece);
                out += &text;
                all.extend(calls);
            }
            let (text, call) = parser.finish();
            all.extend(call);
            let named = all.into_iter().map(|call| (call.name, call.arguments));
            (out + &text, named.collect::<Vec<_>>())
        };
        let whole = parsed(vec![text]);
        assert_eq!(parsed(text.split("").collect()), whole, "{text}");
        whole
    }

    fn call(name: &str, arguments: &str) -> (String, String) {
        (name.into(), arguments.into())
    }

    #[test]
    fn tool_calls_are_taken_out_of_the_text() {
        let one =
            "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": [2]}}\n</tool_call>";
        let add = call("add", "{\"b\":1,\"a\":[2]}");
        assert_eq!(taken(one), ("".into(), vec![add.clone()]));
        let two = format!("I add.\n\n{one}\n{one}\n");
        assert_eq!(
            taken(&two),
            ("I add.".into(), vec![add.clone(), add.clone()])
        );
        let between = format!("a {one} b {one}\n c");
        assert_eq!(
            taken(&between),
            ("abc".into(), vec![add.clone(), add.clone()])
        );
        let text = "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>";
        assert_eq!(taken(text).1, [call("f", "{\"x\":1}")]);
        assert_eq!(
            taken("<tool_call>{\"name\": \"f\"}</tool_call>").1,
            [call("f", "{}")]
        );
        // its end is missing
        let open = one.trim_end_matches("</tool_call>");
        assert_eq!(taken(&format!("x\n{open}")), ("x".into(), vec![add]));
    }

    #[test]
    fn arguments_are_what_the_model_wrote() {
        let written =
            r#"{"id":12345678901234567890123,"x":1.10,"e":1E5,"s":"a \" b\\","t":[-0.0, {}]}"#;
        let expected = call("f", &written.replace("0, {", "0,{"));
        let plain =
            format!("<tool_call>{{\"name\": \"f\", \"arguments\":\n {written} }}</tool_call>");
        assert_eq!(taken(&plain), ("".into(), vec![expected.clone()]));
        let text = Value::from(format!(" {written}\n"));
        let quoted = format!("<tool_call>{{\"name\": \"f\", \"parameters\": {text}}}</tool_call>");
        assert_eq!(taken(&quoted), ("".into(), vec![expected]));
    }

    #[test]
    fn text_that_is_no_tool_call_stays_text() {
        for text in [
            "",
            "plain text \n ",
            "a < b <tool <tool_calls> <<tool_call",
            "<tool_call>\n<function=f>\n<parameter=x>1</parameter>\n</function>\n</tool_call> and on",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\"}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": \"3\"}</tool_call>",
            "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": 1}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": ",
            "</tool_call> é <tool_callé>",
        ] {
            assert_eq!(taken(text), (text.into(), Vec::new()));
        }
    }

    #[test]
    fn text_goes_out_before_the_call_is_complete() {
        let mut calls = ToolCallParser::default();
        assert_eq!(calls.push("I look. <to").0, "I look.");
        assert_eq!(calls.push("night").0, " <tonight");
        assert_eq!(calls.push("\n<tool_call>{\"name\"").0, "");
        assert_eq!(calls.push(": \"f\"}</tool_call").1, []);
        assert_eq!(calls.push(">").1.len(), 1);
    }
}
