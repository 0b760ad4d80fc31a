//! A conversation as it is asked for, made into the prompt's ids.
//!
//! In: `messages`, `tools`, `tool_choice` and `chat_template_kwargs`; out: the ids of what the model's own template writes,
//! up to where the answer begins, and whether that may call tools.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::json_fields::{self, Fields};
use super::{App, tool_calls};
use retort_engine::template::Input;

type Result<T> = std::result::Result<T, ApiError>;

/// Turns of a conversation.
const MAX_MESSAGES: usize = 4096;
/// Tools that a model may call.
const MAX_TOOLS: usize = 128;

/// What the model is asked.
pub(super) struct Prompt {
    /// The conversation up to where the answer begins.
    pub ids: Vec<u32>,
    /// Whether the answer may call tools, in the form that is known (see [`calls`]).
    pub calls: bool,
}

/// The conversation of a request, through the model's template.
pub(super) fn prompt(app: &App, fields: &Fields) -> Result<Prompt> {
    let template = app.template.as_ref().map_err(ApiError::bad)?;
    let values = fields.required("messages")?;
    let Value::Array(values) = values else {
        return Err(json_fields::wrong("messages", "an array", values));
    };
    if values.is_empty() || values.len() > MAX_MESSAGES {
        let problem = format!("between 1 and {MAX_MESSAGES} messages are needed");
        return Err(ApiError::field("messages", problem));
    }
    let tokenizer = &app.model.tokenizer;
    let guard = tokenizer.guard();
    let mut messages = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let message = message(value, &format!("messages[{index}]"))?;
        messages.push(guard.value(&Value::Object(message)));
    }
    let tools = tools(fields)?.map(|tools| guard.value(&tools));
    let more = fields
        .object("chat_template_kwargs")?
        .cloned()
        .map(Value::Object);
    let more = more.map(|more| guard.value(&more));
    let text = template.render(&Input {
        messages: &messages,
        tools: tools.as_ref(),
        add_generation_prompt: true,
        more: more.as_ref().and_then(Value::as_object),
    });
    let text = text.map_err(|error| ApiError::field("messages", error))?;
    app.check_length("messages", &text)?;
    let ids = tokenizer.encode_guarded(&text);
    let ids = ids.map_err(|problem| ApiError::field("messages", problem))?;
    match ids.is_empty() {
        true => Err(ApiError::field(
            "messages",
            "the model's chat template wrote nothing",
        )),
        false => Ok(Prompt {
            ids,
            calls: tools.is_some() && template.mentions(tool_calls::OPEN),
        }),
    }
}

/// A message as templates take it: content as one text, arguments of calls as objects.
fn message(value: &Value, name: &str) -> Result<Map<String, Value>> {
    let Value::Object(given) = value else {
        return Err(json_fields::wrong(name, "an object", value));
    };
    let mut message = given.clone();
    let role = given.get("role").unwrap_or(&Value::Null);
    let role = match json_fields::text(role, &format!("{name}.role"))? {
        // OpenAI's newer word
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        role => {
            let problem = format!("{role:?} is none of system, user, assistant, tool");
            return Err(ApiError::field(&format!("{name}.role"), problem));
        }
    };
    message.insert("role".into(), role.into());
    let calls = given.get("tool_calls").filter(|calls| !calls.is_null());
    let field = format!("{name}.content");
    let content = match given.get("content").unwrap_or(&Value::Null) {
        Value::Null if calls.is_some() => String::new(),
        Value::Array(parts) => {
            let part = |part: &Value| {
                let part = Fields::of(part, &field)?;
                match part.text("type")? {
                    Some("text") => Ok(part.text("text")?.unwrap_or("").to_owned()),
                    other => {
                        let kind = other.unwrap_or("nothing");
                        let problem = format!("parts of type text are taken, not {kind}");
                        Err(ApiError::field(&field, problem))
                    }
                }
            };
            parts.iter().map(part).collect::<Result<Vec<_>>>()?.concat()
        }
        content => json_fields::text(content, &field)?.to_owned(),
    };
    message.insert("content".into(), content.into());
    if let Some(calls) = calls {
        let field = format!("{name}.tool_calls");
        let Value::Array(calls) = calls else {
            return Err(json_fields::wrong(&field, "an array", calls));
        };
        let mut calls = calls.clone();
        for call in &mut calls {
            let arguments = call.pointer_mut("/function/arguments");
            if let Some(arguments) = arguments
                && let Some(object) = arguments
                    .as_str()
                    .and_then(|text| serde_json::from_str(text).ok())
            {
                *arguments = object;
            }
        }
        message.insert("tool_calls".into(), calls.into());
    }
    Ok(message)
}

/// The tools that the model is told of. Which one it calls is its own choice.
fn tools(fields: &Fields) -> Result<Option<Value>> {
    let tools = fields.array("tools")?.filter(|tools| !tools.is_empty());
    if tools.is_some_and(|tools| tools.len() > MAX_TOOLS) {
        return Err(ApiError::field("tools", format!("at most {MAX_TOOLS}")));
    }
    if let Some(other) = tools.into_iter().flatten().find(|tool| !tool.is_object()) {
        return Err(json_fields::wrong("tools", "an array of objects", other));
    }
    match fields.get("tool_choice") {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(_) => {
            return Err(ApiError::field(
                "tool_choice",
                "auto and none are supported",
            ));
        }
    }
    Ok(tools.map(|tools| Value::from(tools.to_vec())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_become_what_templates_take() {
        let take = |value: Value| message(&value, "m").map(Value::Object);
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let taken = take(json!({"role": "developer", "content": parts})).unwrap();
        assert_eq!(taken, json!({"role": "system", "content": "ab"}));
        let call = json!({"function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let taken = take(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        assert_eq!(
            taken.unwrap()["tool_calls"][0]["function"]["arguments"],
            json!({"x": 1})
        );
        for (bad, param) in [
            (json!({"content": "x"}), "m.role"),
            (json!({"role": "king", "content": "x"}), "m.role"),
            (json!({"role": "user"}), "m.content"),
            (
                json!({"role": "user", "content": [{"type": "image_url"}]}),
                "m.content",
            ),
            (json!("hello"), "m"),
        ] {
            assert_eq!(take(bad).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
