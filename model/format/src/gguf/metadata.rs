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

/// Typed metadata: each getter's error names the file, the key, and what stands there instead.
impl Metadata {
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

    /// An integer of any width that fits 64 bits unsigned.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.typed(key, "an unsigned integer", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// An integer of any width that fits a size in memory.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.typed(key, "a size", |v| v.as_integer()?.try_into().ok())
    }

    /// A floating-point number.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "a number", Value::as_f32)
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "a boolean", |v| {
            if let Value::Bool(b) = v {
                Some(*b)
            } else {
                None
            }
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "a string", |v| {
            if let Value::Str(s) = v {
                Some(s.as_str())
            } else {
                None
            }
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
        self.typed(key, "an array of 32-bit integers", |v| {
            if let Value::Array(a) = v {
                a.to_i32()
            } else {
                None
            }
        })
    }

    /// An array of single-precision numbers.
    pub fn f32_array(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "an array of 32-bit floats", |v| match v {
            Value::Array(Array::F32(a)) => Some(a.as_slice()),
            _ => None,
        })
    }
}
