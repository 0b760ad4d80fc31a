//! The prompt of a conversation.
//!
//! In: `messages`, `tools`, `tool_choice` and `chat_template_kwargs` of a request. Out: the ids of
//! what the model's chat template writes, up to where the answer begins, and whether the answer may
//! call tools.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::app::App;
use super::body::JsonBody;
use super::error::{ApiError, Result};
use super::tool_calls;
use retort_engine::template::Input;
use retort_engine::tokenizer::long_integer;

/// Turns of a conversation.
const MAX_MESSAGES: usize = 4096;
/// Tools that a model may call.
const MAX_TOOLS: usize = 128;

/// What the model is asked.
pub(super) struct ChatPrompt {
    /// The conversation up to where the answer begins.
    pub ids: Vec<u32>,
    /// Whether the answer may call tools, in the form of [`tool_calls`].
    pub tool_calls: bool,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Value>,
    tool_choice: Option<Value>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
}

/// A message; as it is serialized, it is what templates take.
#[derive(Deserialize, Serialize)]
#[serde(expecting = "an object")]
struct Message {
    role: Role,
    content: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Value>>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// OpenAI's newer name is `developer`.
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
    Tool,
}

/// A content as one text.
#[derive(Deserialize, Serialize)]
#[serde(from = "ContentParts")]
struct Content(String);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a string is needed, or an array of parts {\"type\": \"text\", \"text\": …}; \
                 other types of parts, but for refusals, are not supported"
)]
enum ContentParts {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Part {
    Text { text: Option<String> },
    Refusal { refusal: Option<String> },
}

impl From<ContentParts> for Content {
    fn from(content: ContentParts) -> Self {
        match content {
            ContentParts::Text(text) => Self(text),
            ContentParts::Parts(parts) => {
                let text = |part| match part {
                    Part::Text { text: said } | Part::Refusal { refusal: said } => said,
                };
                Self(parts.into_iter().filter_map(text).collect())
            }
        }
    }
}

/// The prompt that a request asks for.
pub(super) fn read(app: &App, body: &JsonBody) -> Result<ChatPrompt> {
    let template = app.template.as_ref().map_err(ApiError::bad)?;
    let conversation: Conversation = body.read()?;
    if !(1..=MAX_MESSAGES).contains(&conversation.messages.len()) {
        let problem = format!("between 1 and {MAX_MESSAGES} messages are needed");
        return Err(ApiError::field("messages", problem));
    }
    let tools = conversation.tools()?;
    let tokenizer = &app.model.tokenizer;
    let guard = tokenizer.guard();
    let messages = conversation.messages.into_iter().enumerate();
    let messages = messages.map(|(index, message)| Ok(guard.value(&message.for_template(index)?)));
    let messages = messages.collect::<Result<Vec<_>>>()?;
    let tools = tools.map(|tools| guard.value(&tools));
    let more = guard.value(&conversation.chat_template_kwargs.into());
    let wrong = |problem: String| ApiError::field("messages", problem);
    let text = template.render(&Input {
        messages: &messages,
        tools: tools.as_ref(),
        add_generation_prompt: true,
        more: more.as_object(),
    });
    let text = text.map_err(|error| wrong(error.to_string()))?;
    app.check_length("messages", &text)?;
    let ids = tokenizer.encode_guarded(&text).map_err(wrong)?;
    if ids.is_empty() {
        return Err(wrong("the model's chat template wrote nothing".into()));
    }
    Ok(ChatPrompt {
        ids,
        tool_calls: tools.is_some() && template.mentions(tool_calls::OPEN),
    })
}

impl Conversation {
    /// The tools that the template shows to the model. Which one it calls is its own choice.
    fn tools(&self) -> Result<Option<Value>> {
        if self.tools.len() > MAX_TOOLS || !self.tools.iter().all(Value::is_object) {
            let problem = format!("an array of at most {MAX_TOOLS} objects is needed");
            return Err(ApiError::field("tools", problem));
        }
        let choice = self.tool_choice.as_ref().map(Value::as_str);
        match choice {
            None | Some(Some("auto")) => {
                Ok((!self.tools.is_empty()).then(|| self.tools.clone().into()))
            }
            Some(Some("none")) => Ok(None),
            _ => Err(ApiError::field(
                "tool_choice",
                "auto and none are supported",
            )),
        }
    }
}

impl Message {
    /// The message, the `index`-th, as templates take it: content as one text, arguments of tool
    /// calls as objects. What the assistant said may be missing; a refusal stands in its place.
    fn for_template(mut self, index: usize) -> Result<Value> {
        let assistant = matches!(self.role, Role::Assistant);
        if self.content.is_none() && self.tool_calls.is_none() && !assistant {
            let name = format!("messages[{index}].content");
            return Err(ApiError::field(&name, "this field is required"));
        }
        let refusal = self.other.get("refusal").and_then(Value::as_str);
        let refusal = refusal.filter(|_| assistant).unwrap_or_default();
        self.content
            .get_or_insert_with(|| Content(refusal.to_owned()));
        for call in self.tool_calls.iter_mut().flatten() {
            let arguments = call.pointer_mut("/function/arguments");
            if let Some(arguments) = arguments
                && let Some(object) = arguments.as_str().and_then(parse_arguments)
            {
                *arguments = object;
            }
        }
        Ok(json!(self))
    }
}

/// The JSON of a call's arguments. Whole numbers of any length stay what they are.
fn parse_arguments(json: &str) -> Option<Value> {
    let (mut out, mut rest) = (String::with_capacity(json.len()), json);
    let (mut in_string, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        if !in_string && (next == '-' || next.is_ascii_digit()) {
            let end = rest.find(|c: char| !is_number(c)).unwrap_or(rest.len());
            match long_integer(&rest[..end]) {
                Some(number) => out += &Value::from(number).to_string(),
                None => out += &rest[..end],
            }
            rest = &rest[end..];
            continue;
        }
        match next {
            _ if escaped => escaped = false,
            '"' => in_string = !in_string,
            '\\' => escaped = in_string,
            _ => {}
        }
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    serde_json::from_str(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use retort_engine::template::Template;

    /// A message as templates take it.
    fn read(message: Value) -> Result<Value> {
        let body = json!({"messages": [message]}).to_string();
        let conversation: Conversation = JsonBody::parse(body.as_bytes())?.read()?;
        let message = conversation.messages.into_iter().next();
        message.expect("there is one").for_template(0)
    }

    #[test]
    fn messages_become_what_templates_take() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let taken = read(json!({"role": "developer", "content": parts})).unwrap();
        assert_eq!(taken, json!({"role": "system", "content": "ab"}));
        let call = json!({"function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let taken = read(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        let call = json!({"function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(
            taken.unwrap(),
            json!({"role": "assistant", "content": "", "tool_calls": [call]})
        );
        let named = json!({"role": "tool", "content": "3", "tool_call_id": "a"});
        assert_eq!(read(named.clone()).unwrap(), named);
    }

    #[test]
    fn arguments_of_earlier_calls_keep_long_numbers() {
        let written = r#"{"id": [12345678901234567890123, -1, 18446744073709551615], "-9": "a \"12345678901234567890123 \\"}"#;
        let call = json!({"function": {"name": "f", "arguments": written}});
        let message = read(json!({"role": "assistant", "tool_calls": [call]})).unwrap();
        let source = "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
        let text = Template::new(source, "", "").unwrap().render(&Input {
            messages: &[message],
            ..Input::default()
        });
        assert_eq!(text.unwrap(), written);
        for bad in [
            "{",
            "{\"a\": 00012345678901234567890123}",
            "12345678901234567890123x",
        ] {
            assert_eq!(parse_arguments(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_the_assistant_said_may_be_missing_or_a_refusal() {
        let content = |mut message: Value| {
            message["role"] = "assistant".into();
            read(message).unwrap()["content"].clone()
        };
        let part = |kind: &str, text: &str| json!({"type": kind, kind: text});
        assert_eq!(content(json!({})), "");
        assert_eq!(content(json!({"content": null})), "");
        assert_eq!(content(json!({"content": [], "tool_calls": null})), "");
        assert_eq!(content(json!({"content": null, "refusal": "No."})), "No.");
        assert_eq!(content(json!({"content": "Yes.", "refusal": null})), "Yes.");
        assert_eq!(content(json!({"content": [part("refusal", "No.")]})), "No.");
        let both = [part("text", "Hm. "), part("refusal", "No.")];
        assert_eq!(content(json!({"content": both})), "Hm. No.");
        for role in ["user", "system", "tool"] {
            let error = read(json!({"role": role, "content": null, "refusal": "x"})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("messages[0].content"));
        }
    }

    #[test]
    fn a_wrong_message_is_an_error_naming_the_path() {
        for (bad, param) in [
            (json!({"content": "x"}), "messages[0].role"),
            (json!({"role": "king", "content": "x"}), "messages[0].role"),
            (json!({"role": "user"}), "messages[0].content"),
            (
                json!({"role": "user", "content": [{"type": "image_url"}]}),
                "messages[0].content",
            ),
            (
                json!({"role": "assistant", "tool_calls": 1}),
                "messages[0].tool_calls",
            ),
            (json!("hello"), "messages[0]"),
        ] {
            assert_eq!(read(bad).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
