//! Typed access to the keys of a `config.json`; every error names the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::rope_scaling::RopeScaling;

/// The keys of a `config.json`, or of an object in it.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    /// The keys of `map`, which is in the file at `path`.
    pub(crate) fn new(map: &'a Map<String, Value>, path: &'a Path) -> Self {
        Self { map, path }
    }

    /// The value of `key`; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// An error about `key`.
    pub(crate) fn bad(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        Error::format(self.path, format!("field {key}: {reason}"))
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get(key)
            .map(|v| read(v).ok_or_else(|| self.bad(key, format!("expected {expected}"))))
            .transpose()
    }

    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        let size = self.read(key, "a positive integer", |v| v.as_u64()?.try_into().ok())?;
        Ok(size.unwrap_or(default))
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        match self.size_or(key, 0)? {
            0 => Err(self.bad(key, "expected a positive integer")),
            n => Ok(n),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_f64)
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self
            .read(key, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        self.flag_or(key, false)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a string", Value::as_str)
    }

    /// A token id; of a list (several ids may end a text) the first, which is the one
    /// that separates documents.
    pub(crate) fn id(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a token id", |v| {
            v.as_u64().or_else(|| v.get(0)?.as_u64())?.try_into().ok()
        })
    }

    /// The rotary base and scaling: `rope_theta` and `rope_scaling`, or what transformers
    /// 5 makes of them, `rope_parameters`.
    pub(crate) fn rope(&self) -> Result<(Option<f64>, Option<RopeScaling>)> {
        let object = |key| self.read(key, "an object", Value::as_object);
        let (mut theta, mut scaling) = (self.number("rope_theta")?, None);
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(map) = object(key)? else { continue };
            let inner = Fields::new(map, self.path);
            let own = inner.number("rope_theta")?;
            if let (Some(theta), Some(own)) = (theta, own)
                && theta != own
            {
                let reason = format!("rope_theta is {own} in it and {theta} elsewhere");
                return Err(self.bad(key, reason));
            }
            theta = theta.or(own);
            if inner
                .number("partial_rotary_factor")?
                .is_some_and(|p| p != 1.0)
            {
                return Err(self.bad(key, "partial_rotary_factor is not supported"));
            }
            scaling = inner.scaling(key, self)?.or(scaling);
        }
        if self
            .number("partial_rotary_factor")?
            .is_some_and(|p| p != 1.0)
        {
            return Err(self.bad("partial_rotary_factor", "only 1.0 is supported"));
        }
        Ok((theta, scaling))
    }

    /// The scaling that this object, the value of `key` in `outer`, describes.
    fn scaling(&self, key: &str, outer: &Fields<'_>) -> Result<Option<RopeScaling>> {
        // Older files say `type`.
        let kind = self.text("rope_type")?.or(self.text("type")?);
        let number = |name: &str| {
            self.number(name)?
                .ok_or_else(|| self.bad(key, format!("{name} is missing")))
        };
        match kind {
            None | Some("default") => Ok(None),
            Some("linear") => Ok(Some(RopeScaling::Linear {
                factor: number("factor")?,
            })),
            Some("llama3") => Ok(Some(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                // As transformers 5 takes it where it is not said.
                original_max_position_embeddings: match self
                    .size_or("original_max_position_embeddings", 0)?
                {
                    0 => outer.size("max_position_embeddings")?,
                    length => length,
                },
            })),
            Some(other) => Err(self.bad(
                key,
                format!("\"{other}\" is not supported (default, linear and llama3 are)"),
            )),
        }
    }

    /// Refuses another activation than SwiGLU's.
    pub(crate) fn silu(&self) -> Result<()> {
        match self.text("hidden_act")? {
            None | Some("silu") => Ok(()),
            Some(other) => Err(self.bad(
                "hidden_act",
                format!("\"{other}\" is not supported (silu is)"),
            )),
        }
    }

    /// Refuses a config whose layers do not all attend to everything before them.
    pub(crate) fn full_attention(&self) -> Result<()> {
        let remedy = "is not supported: every layer must attend to the whole sequence";
        if self.flag("use_sliding_window")? {
            return Err(self.bad("use_sliding_window", format!("true {remedy}")));
        }
        let layers = self.read("layer_types", "a list", Value::as_array)?;
        for layer in layers.into_iter().flatten() {
            if layer != "full_attention" {
                return Err(self.bad("layer_types", format!("{layer} {remedy}")));
            }
        }
        match self.get("dual_chunk_attention_config") {
            Some(_) => Err(self.bad("dual_chunk_attention_config", remedy)),
            None => Ok(()),
        }
    }
}
