//! The JSON body of a request, read within the limits on bytes and time.
//!
//! In: an HTTP request. Out: the typed structs that the endpoints ask for. An error names the field
//! by its path, such as `messages[0].content`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::app::App;
use super::error::{ApiError, Result};

/// A JSON object that asks for this server's model, or names none.
#[derive(Debug)]
pub(super) struct JsonBody(Value);

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let limit = app.options.max_body;
        let read = axum::body::to_bytes(request.into_body(), limit);
        let read = tokio::time::timeout(app.options.patience, read).await;
        let too_late = |_| {
            let message = "the body did not arrive in time";
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
        };
        let too_large = |_| {
            let message = format!("the body is cut short, or has more than {limit} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let bytes = read.map_err(too_late)?.map_err(too_large)?;
        let body = run_blocking(move || Self::parse(&bytes)).await?;
        if let Some(model) = body.read::<ModelField>()?.model {
            app.check_model(&model)?;
        }
        Ok(body)
    }
}

#[derive(Deserialize)]
struct ModelField {
    model: Option<String>,
}

impl JsonBody {
    /// Parses an object. A field that is null counts as absent.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|_, value| !value.is_null());
                Ok(Self(Value::Object(fields)))
            }
            Ok(_) => Err(ApiError::bad("the body must be a JSON object")),
            Err(error) => Err(ApiError::bad(format!("the body is not JSON: {error}"))),
        }
    }

    /// Reads the fields of `T`. Other fields are passed over: clients send many.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T> {
        serde_path_to_error::deserialize(&self.0).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.into_inner().to_string();
            let missing = problem.strip_prefix("missing field `");
            if let Some(name) = missing.and_then(|rest| rest.strip_suffix('`')) {
                let name = match &path[..] {
                    "." => name.to_owned(),
                    parent => format!("{parent}.{name}"),
                };
                return ApiError::field(&name, "this field is required");
            }
            match problem.rsplit_once(", expected ") {
                // a long value is not sent back
                Some((_, expected)) if problem.len() > MAX_PROBLEM_BYTES => {
                    ApiError::field(&path, format!("expected {expected}"))
                }
                _ => ApiError::field(&path, problem),
            }
        })
    }
}

/// Bytes of a message that repeats the value it is about.
const MAX_PROBLEM_BYTES: usize = 200;

/// `value`, if it is in `range`.
pub(super) fn in_range<T>(name: &str, value: T, range: RangeInclusive<T>) -> Result<T>
where
    T: PartialOrd + Display,
{
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = range.into_inner();
    let problem = format!("{value} is not between {low} and {high}");
    Err(ApiError::field(name, problem))
}

/// A text, or a list of token ids.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// One prompt, or several.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a text, an array of token ids, or an array of these is needed"
)]
pub(super) enum Prompts {
    One(Prompt),
    Several(Vec<Prompt>),
}

impl Prompts {
    /// The ids of each prompt of field `name`, of which there are 1 to `max`.
    pub fn encode(self, app: &App, name: &str, max: usize) -> Result<Vec<Vec<u32>>> {
        let prompts = match self {
            Self::One(prompt) => vec![prompt],
            Self::Several(prompts) => prompts,
        };
        if prompts.len() > max {
            return Err(ApiError::field(name, format!("at most {max} prompts")));
        }
        let ids = |prompt| match prompt {
            Prompt::Text(text) => app.encode_prompt(name, &text),
            Prompt::Ids(ids) => Ok(ids),
        };
        let prompts: Vec<_> = prompts.into_iter().map(ids).collect::<Result<_>>()?;
        if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
            return Err(ApiError::field(name, "it is empty"));
        }
        Ok(prompts)
    }
}

/// Runs `work`, which computes, on another thread than the one that serves connections.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be prepared")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Value) -> JsonBody {
        JsonBody::parse(value.to_string().as_bytes()).unwrap()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        n: u32,
    }

    #[test]
    fn an_error_names_the_path_of_the_field() {
        let error = |value: Value| body(value).read::<Outer>().unwrap_err();
        let wrong = error(json!({"inner": [{"n": 1}, {"n": "x"}]}));
        assert_eq!(wrong.param.as_deref(), Some("inner[1].n"));
        assert_eq!(
            wrong.message,
            "inner[1].n: invalid type: string \"x\", expected u32"
        );
        let missing = error(json!({"inner": [{}]}));
        assert_eq!(missing.param.as_deref(), Some("inner[0].n"));
        assert_eq!(missing.message, "inner[0].n: this field is required");
        let missing = body(json!({})).read::<Inner>().unwrap_err();
        assert_eq!(missing.message, "n: this field is required");
        let long = error(json!({"inner": "x".repeat(9999)}));
        assert_eq!(long.message, "inner: expected a sequence");
    }

    #[test]
    fn null_counts_as_absent_and_unknown_fields_are_passed_over() {
        let read = body(json!({"inner": null, "more": 1})).read();
        assert_eq!(read, Ok(Outer { inner: None }));
    }

    #[test]
    fn a_body_that_is_no_object_is_an_error() {
        for (bytes, problem) in [("[1]", "must be a JSON object"), ("{", "is not JSON")] {
            let error = JsonBody::parse(bytes.as_bytes()).unwrap_err();
            assert!(error.message.contains(problem), "{}", error.message);
        }
    }

    #[test]
    fn a_list_of_token_ids_is_one_prompt() {
        let read = |value: Value| serde_json::from_value::<Prompts>(value);
        assert!(matches!(
            read(json!([1, 2])),
            Ok(Prompts::One(Prompt::Ids(ids))) if ids == [1, 2]
        ));
        for several in [json!(["a", "b"]), json!([[1], [2]]), json!(["a", [2]])] {
            assert!(matches!(read(several), Ok(Prompts::Several(all)) if all.len() == 2));
        }
        for bad in [
            json!([1, -2]),
            json!([1, "2"]),
            json!([1.5]),
            json!([1u64 << 40]),
            json!([["a"]]),
        ] {
            let Err(error) = read(bad) else {
                panic!("it is refused");
            };
            assert!(error.to_string().contains("token ids"), "{error}");
        }
    }

    #[test]
    fn a_value_outside_its_range_is_an_error_naming_the_range() {
        assert_eq!(in_range("n", 3, 1..=3), Ok(3));
        let error = in_range("top_p", f32::NAN, 0.0..=1.0).unwrap_err();
        assert_eq!(error.message, "top_p: NaN is not between 0 and 1");
    }
}
