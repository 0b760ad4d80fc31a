//! Calls of tools in an answer's text, where the model writes them as Hermes and Qwen do (the form was set by
//! NousResearch/Hermes-Function-Calling):
//!
//! ```text
//! <tool_call>
//! {"name": "weather", "arguments": {"city": "Paris"}}
//! </tool_call>
//! ```
//!
//! In: text as it becomes certain; out: the text that is no call, and the calls, each when it is complete. What looks like
//! a call but is none, Qwen3-Coder's XML for instance, stays text to the letter. Blank space around calls belongs to them.

use serde_json::{Map, Value, json};

/// What a template that has the model write calls like this has in its source.
pub(super) const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A tool that the model wants to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    id: String,
    name: String,
    /// JSON.
    arguments: String,
}

/// Takes calls out of an answer's text.
#[derive(Debug, Default)]
pub(super) struct Calls {
    held: String,
    /// Whether there has been a call; blank space is held back then.
    any: bool,
}

impl Call {
    /// A call written between the tags, if it is one.
    fn parse(text: &str) -> Option<Self> {
        let mut call: Map<String, Value> = serde_json::from_str(text).ok()?;
        let Some(Value::String(name)) = call.remove("name") else {
            return None;
        };
        let arguments = match call.remove("arguments").or(call.remove("parameters")) {
            None => Map::new().into(),
            // some write them as a text that holds JSON
            Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
            Some(arguments) => arguments,
        };
        (arguments.is_object() && !name.is_empty()).then(|| Self {
            id: format!("call_{:016x}", rand::random::<u64>()),
            name,
            arguments: arguments.to_string(),
        })
    }

    /// The call as the API tells it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

impl Calls {
    /// What more text makes certain: text that is no call, and calls.
    pub fn push(&mut self, text: &str) -> (String, Vec<Call>) {
        self.held += text;
        let (mut out, mut calls) = (String::new(), Vec::new());
        while let Some(at) = self.held.find(OPEN) {
            let Some(length) = self.held[at..].find(CLOSE) else {
                // all before the call but the blank space next to it is certain
                let before = self.held[..at].trim_end().len();
                out += &self.take(before);
                return (out, calls);
            };
            let inner = at + OPEN.len()..at + length;
            let end = at + length + CLOSE.len();
            match Call::parse(&self.held[inner]) {
                Some(call) => {
                    let before = self.held[..at].trim_end().len();
                    out += &self.take(before);
                    self.held.drain(..end - before);
                    self.any = true;
                    calls.push(call);
                }
                None => out += &self.take(end),
            }
        }
        // what may be the beginning of a call waits, and the blank space before it
        let begins = |at: &usize| OPEN.starts_with(&self.held[*at..]);
        let near = self.held.len().saturating_sub(OPEN.len());
        let starts = self.held.char_indices().map(|(at, _)| at);
        let keep = starts.filter(|at| *at >= near).find(begins);
        let certain = self.held[..keep.unwrap_or(self.held.len())]
            .trim_end()
            .len();
        out += &self.take(certain);
        (out, calls)
    }

    /// The rest. A call whose end is missing, as where that is a stop sequence, counts if it is whole.
    pub fn finish(&mut self) -> (String, Option<Call>) {
        let mut held = std::mem::take(&mut self.held);
        if let Some(at) = held.find(OPEN)
            && let Some(call) = Call::parse(&held[at + OPEN.len()..])
        {
            held.truncate(held[..at].trim_end().len());
            return (self.after_calls(held), Some(call));
        }
        (self.after_calls(held), None)
    }

    /// Takes `bytes` of what is held.
    fn take(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        let text = std::mem::replace(&mut self.held, rest);
        self.after_calls(text)
    }

    /// A text without the blank space that follows a call.
    fn after_calls(&mut self, text: String) -> String {
        if !self.any {
            return text;
        }
        let rest = text.trim_start();
        if !rest.is_empty() {
            self.any = false;
        }
        rest.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a text that comes whole, and letter by letter: the same.
    fn taken(text: &str) -> (String, Vec<(String, String)>) {
        let told = |pieces: Vec<&str>| {
            let (mut calls, mut out, mut all) = (Calls::default(), String::new(), Vec::new());
            for piece in pieces {
                let (text, calls) = calls.push(piece);
                out += &text;
                all.extend(calls);
            }
            let (text, call) = calls.finish();
            all.extend(call);
            let named = all.into_iter().map(|call| (call.name, call.arguments));
            (out + &text, named.collect::<Vec<_>>())
        };
        let whole = told(vec![text]);
        assert_eq!(told(text.split("").collect()), whole, "{text}");
        whole
    }

    fn call(name: &str, arguments: &str) -> (String, String) {
        (name.into(), arguments.into())
    }

    #[test]
    fn calls_are_taken_out_of_the_text() {
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
    fn what_is_no_call_stays_text() {
        for text in [
            "",
            "plain text \n ",
            "a < b <tool <tool_calls> <<tool_call",
            "<tool_call>\n<function=f>\n<parameter=x>1</parameter>\n</function>\n</tool_call> and on",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
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
        let mut calls = Calls::default();
        assert_eq!(calls.push("I look. <to").0, "I look.");
        assert_eq!(calls.push("night").0, " <tonight");
        assert_eq!(calls.push("\n<tool_call>{\"name\"").0, "");
        assert_eq!(calls.push(": \"f\"}</tool_call").1, []);
        assert_eq!(calls.push(">").1.len(), 1);
    }
}
