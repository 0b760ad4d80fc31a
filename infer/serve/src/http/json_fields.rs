//! A request's JSON, field by field: each has a type and a range, and an error names it.
//!
//! A field that is null counts as absent. Fields that nobody asks for are passed over, as clients send many.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

type Result<T> = std::result::Result<T, ApiError>;

/// The fields of a JSON object.
#[derive(Clone, Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::bad("the body must be a JSON object")),
            Err(error) => Err(ApiError::bad(format!("the body is no JSON: {error}"))),
        }
    }

    /// The fields of an object inside.
    pub fn of(value: &Value, name: &str) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self(fields.clone())),
            other => Err(wrong(name, "an object", other)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn required(&self, name: &str) -> Result<&Value> {
        let missing = || ApiError::field(name, "this field is required");
        self.get(name).ok_or_else(missing)
    }

    pub fn number(&self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        self.get(name)
            .map(|value| number(value, name, range))
            .transpose()
    }

    pub fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        self.get(name)
            .map(|value| integer(value, name, range))
            .transpose()
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.get(name).map(|value| text(value, name)).transpose()
    }

    pub fn array(&self, name: &str) -> Result<Option<&[Value]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong(name, "an array", other)),
        }
    }

    pub fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(other) => Err(wrong(name, "an object", other)),
        }
    }
}

/// A number in `range`.
pub(super) fn number(value: &Value, name: &str, range: RangeInclusive<f32>) -> Result<f32> {
    let number = value
        .as_f64()
        .ok_or_else(|| wrong(name, "a number", value))? as f32;
    match range.contains(&number) {
        true => Ok(number),
        false => {
            let (low, high) = range.into_inner();
            Err(ApiError::field(
                name,
                format!("{number} is not between {low} and {high}"),
            ))
        }
    }
}

/// A whole number in `range`.
pub(super) fn integer(value: &Value, name: &str, range: RangeInclusive<u64>) -> Result<u64> {
    let (low, high) = range.into_inner();
    match value.as_u64() {
        Some(number) if (low..=high).contains(&number) => Ok(number),
        _ if value.is_number() => {
            let problem = format!("{value} is no whole number between {low} and {high}");
            Err(ApiError::field(name, problem))
        }
        _ => Err(wrong(name, "a whole number", value)),
    }
}

/// A text.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str> {
    value.as_str().ok_or_else(|| wrong(name, "a string", value))
}

/// Another type than the one needed.
pub(super) fn wrong(name: &str, needed: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    ApiError::field(name, format!("{needed} is needed, not {found}"))
}
