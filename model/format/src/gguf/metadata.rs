//! The metadata of a GGUF file, or of one to be written: keys to typed values.

use super::value::{Array, Value};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Keys and values in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// No keys; errors will name `path`.
    pub fn new(path: &Path) -> Self {
        Self::of_file(path, Vec::new())
    }

    pub(super) fn of_file(path: &Path, entries: Vec<(String, Value)>) -> Self {
        Self {
            path: path.to_owned(),
            entries,
        }
    }

    /// The path of the file, or of the directory it is made of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys and values in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        let entries = self.entries.iter();
        entries.map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.entries.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value)
    }

    /// Sets a key; a second value for a key takes the first one's place.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }
}

/// Typed metadata, where a missing key is an error; see [`Metadata::optional`]. Each getter's error names the file, the key, and what stands there instead.
impl Metadata {
    /// What `read`, one of the getters below, gives for `key`; none if the key is missing.
    ///
    /// # Errors
    ///
    /// As of the getter, for a value of another type.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        read: impl FnOnce(&'a Self, &str) -> Result<T>,
    ) -> Result<Option<T>> {
        self.get(key).map(|_| read(self, key)).transpose()
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        f: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| {
            Error::metadata(&self.path, key, format!("missing; {what} is needed"))
        })?;
        f(value).ok_or_else(|| {
            let problem = format!("is {}, but {what} is needed", value.describe());
            Error::metadata(&self.path, key, problem)
        })
    }

    /// An integer of any width that fits 32 bits unsigned.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "an unsigned 32-bit integer", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// A floating-point number.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "a number", Value::as_f32)
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "a boolean", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "a string", |v| match v {
            Value::Str(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn str_array(&self, key: &str) -> Result<&[String]> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::Str(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width, each fitting 32 bits signed.
    pub fn i32_array(&self, key: &str) -> Result<Vec<i32>> {
        self.typed(key, "an array of 32-bit integers", |v| match v {
            Value::Array(a) => a.to_i32(),
            _ => None,
        })
    }
}
